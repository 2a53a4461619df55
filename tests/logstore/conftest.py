"""A real S3 server (moto's) as a child process, and the environment that leads to it."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from jobcast.logstore import LogPlace, LogStoreError, Stored, Uploader, open_log_store
from jobcast.logstore.base import LogStore
from testbed.ports import free_port

BUCKET = "logs"
SECRET = "the-secret-that-nobody-may-see"


class S3Server:
    """On a loopback port of its own, with one bucket. Accepts any credentials until `check_credentials`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "S3Server":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("PUT", f"/{BUCKET}")
                return self
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)
            self.process = None

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=body, method=method)
        request.add_header("Content-Type", "text/plain")
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: bytes = response.read()
            return answer

    def check_credentials(self, yes: bool) -> None:
        self.ask("POST", "/moto-api/reset-auth", b"0" if yes else b"inf")


@pytest.fixture(autouse=True)
def _no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests never use credentials of the machine that runs them."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _s3_of_the_session() -> Iterator[S3Server]:
    server = S3Server().start()
    yield server
    server.kill()


def lead_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def s3(_s3_of_the_session: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The session's server. Do not stop it; ask for `own_s3` to do that."""
    lead_to(_s3_of_the_session.url, monkeypatch)
    return _s3_of_the_session


@pytest.fixture
def own_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server for this test alone, to be killed."""
    server = S3Server().start()
    lead_to(server.url, monkeypatch)
    yield server
    server.kill()


def place(name: str = "pod", instance: int = 0) -> LogPlace:
    return LogPlace("evals", "eval-42", "6f9d3b52-63a5-4a83-9a41-0d1d3f6a7c10", name, "main", instance)


async def no_put(place: LogPlace, blob: bytes, size: int) -> Stored:
    raise AssertionError("an object store does not write to Redis")


def opened(url: str) -> LogStore:
    store = open_log_store(url, put=no_put, limit=0)
    assert store is not None
    return store


async def store_log(store: LogStore, where: LogPlace, data: bytes, piece: int = 65_536) -> Stored | LogStoreError:
    """In pieces, as a log is read."""
    uploader = Uploader(store, where, stall_seconds=30)
    for start in range(0, len(data), piece):
        await uploader.feed(data[start : start + piece])
    return await uploader.finish(limit=60)
