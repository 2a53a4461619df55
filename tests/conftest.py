"""Fixtures for every ring: a real Valkey, loopback ports, clusters. Whatever is started here is stopped here."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import redis

from testbed.valkey import ValkeyServer
from testbed.valkey import valkey as a_valkey

R = TypeVar("R")

pytest_plugins = ["tests.fates.table", "tests.valkeys.fixtures"]


@pytest.fixture(scope="session")
def _valkey_of_the_session() -> Iterator[ValkeyServer]:
    with a_valkey() as server:
        yield server


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


@pytest.fixture
def persistent_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """The same, and it keeps what it acknowledged, whatever is done to it."""
    server = ValkeyServer(tmp_path, persistent=True).start()
    yield server
    server.stop(kill=True)


def until(condition: Callable[[], R], timeout: float = 60.0) -> R:
    """Wait until it is true; returns what it returned."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s; last: {result!r}"
        time.sleep(0.02)
    return result


async def eventually(condition, timeout: float = 60.0, every: float = 0.02):  # type: ignore[no-untyped-def]
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
