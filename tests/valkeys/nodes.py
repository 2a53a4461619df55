"""What a primary with a replica needs, whoever replaces the one by the other; and one server that takes long to load."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import redis

from testbed.valkey import ValkeyServer

QUICK = ("--repl-diskless-sync-delay", "0")
LOADED_KEYS = 1000


def wait_until(condition: Callable[[], Any], timeout: float = 90.0) -> Any:
    """What it returned once it was true; while it raises what redis-py raises it counts as false.

    So long because a sentinel that a busy machine has kept from running for 2 s does nothing for the next 30 (TILT mode).
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            if result := condition():
                return result
        except redis.RedisError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {condition.__name__}")
        time.sleep(0.02)


class SlowLoader(ValkeyServer):
    """It can take long to load what it had saved."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, *QUICK, "--enable-debug-command", "local", "--rdbcompression", "no")

    def restart_slowly(self) -> None:
        """Die, and load for some seconds; until `hurry`."""
        self.ask("DEBUG", "POPULATE", LOADED_KEYS, "loaded", 1024)
        self.ask("SAVE")
        self.stop(kill=True)
        # Microseconds a key; and it looks up from its work every kilobyte.
        self.launch("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
        wait_until(self.is_loading)

    def is_loading(self) -> bool:
        try:
            self.ask("PING")
        except redis.exceptions.BusyLoadingError:
            return True
        return False

    def hurry(self) -> None:
        self.ask("CONFIG", "SET", "key-load-delay", "0")


class Doubled(Protocol):
    """A primary that has a replica, and what replaces the one by the other."""

    @property
    def url(self) -> str: ...

    @property
    def primary(self) -> ValkeyServer: ...

    @property
    def replica(self) -> ValkeyServer: ...

    def fail_over(self, *, kill: bool = True) -> None:
        """Kill the primary, or have it demoted, and wait until the other one is the primary for all who know."""


@contextlib.asynccontextmanager
async def lagging(doubled: Doubled) -> AsyncIterator[None]:
    """What the primary acknowledges within is lost: then it dies, and the replica takes its place."""
    primary, replica = doubled.primary, doubled.replica
    replica.freeze()
    try:
        primary.ask("CLIENT", "KILL", "TYPE", "replica")  # what it sent before the replica still finds when it thaws
        yield
        primary.stop(kill=True)
    finally:
        replica.thaw()


def replication_of(node: ValkeyServer) -> bytes:
    """The section on replication, as it is on the wire."""
    with redis.Redis(port=node.port) as client:
        client.response_callbacks.pop("INFO", None)
        return bytes(client.execute_command("INFO", "replication"))
