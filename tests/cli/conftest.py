"""The command as a real process, and something that tells."""

import asyncio
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from devcluster import DevCluster
from jobcast.cli.app import app
from jobcast.keys import Keys
from jobcast.redis.connection import connect
from testbed.valkey import ValkeyServer
from tests.api import Api, client
from tests.cli.cluster import Told
from tests.cli.operating import Stage
from tests.client.telling import Teller, telling_to

JOBCAST = str(Path(sys.executable).parent / "jobcast")
Process = subprocess.Popen[str]


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def environment(valkey: ValkeyServer, prefix: str) -> dict[str, str]:
    """Of an operator who has set up where Jobcast tells; and whose terminal is no terminal."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"REDIS_URL": valkey.url, "KEY_PREFIX": prefix, "TZ": "UTC", "PYTHONWARNINGS": "error"}


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Start a command; what has not ended by then is killed after the test."""
    started: list[Process] = []

    def start(*arguments: str, **more: str) -> Process:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [JOBCAST, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment | more, bufsize=1
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a command to its end."""

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([JOBCAST, *arguments], capture_output=True, text=True, env=environment | more, timeout=90)

    return run


@pytest.fixture
def call(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """The same in this process, for tests that have no event loop: what a hundred starts of Python would cost is saved."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        result = CliRunner().invoke(app, arguments, env=more)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def stage(valkey: ValkeyServer, prefix: str) -> Iterator[Stage]:
    with redis.Redis(port=valkey.port, decode_responses=True, encoding_errors="replace") as client:
        yield Stage(client, prefix)


@pytest.fixture
async def teller(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Teller]:
    async with telling_to(valkey.url, prefix) as teller:
        yield teller


@pytest.fixture
async def is_listening(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Callable[..., "object"]]:
    """Whether somebody listens to the ends of evaluations."""
    client = connect(valkey.url)

    async def is_listening(count: int = 1) -> bool:
        channel = Keys(prefix).channel("failed")
        return dict(await client.pubsub_numsub(channel))[channel.encode()] >= count

    yield is_listening
    await client.aclose()


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DevCluster]:
    async with DevCluster() as cluster:
        cluster.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield cluster


@pytest.fixture
async def api(cluster: DevCluster) -> AsyncIterator[Api]:
    async with client(cluster.url, None, {}, cluster) as api:
        yield api


@pytest.fixture
def told(api: Api, teller: Teller) -> Told:
    return Told(api, teller)


async def at_a_terminal(environment: dict[str, str], *arguments: str) -> tuple[bytes, int]:
    """What a terminal is given, and the exit code; its ends of lines as programs write them."""
    master, slave = pty.openpty()
    process = subprocess.Popen(  # noqa: ASYNC220 - takes milliseconds
        [JOBCAST, *arguments], stdout=slave, stderr=slave, env=environment | {"TERM": "xterm"}
    )
    os.close(slave)
    shown = b""
    try:
        while True:
            try:
                data = await asyncio.wait_for(asyncio.to_thread(os.read, master, 65536), 30)
            except OSError:  # how a terminal says that its other end is closed
                break
            if not data:
                break
            shown += data
        return shown.replace(b"\r\n", b"\n"), await asyncio.to_thread(process.wait, 15)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def answered(environment: dict[str, str], prompt: bytes, answer: bytes, *arguments: str) -> tuple[bytes, int]:
    """What a terminal is given, and the exit code, when this is typed as soon as the prompt is there."""
    pid, master = pty.fork()
    if pid == 0:
        os.execve(JOBCAST, [JOBCAST, *arguments], environment | {"TERM": "xterm"})
    shown = b""
    try:
        while prompt not in shown:
            shown += os.read(master, 4096)
        os.write(master, answer)
        while True:
            try:
                shown += os.read(master, 4096)
            except OSError:  # how a terminal says that its other end is closed
                break
        return shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(master)
