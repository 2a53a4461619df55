"""What a Redis that runs may refuse, and with which word it says so."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from testbed.valkey import ValkeyServer


class Refusing:
    """A Valkey, and how to make it refuse and take again."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server

    @contextmanager
    def demoted(self) -> Iterator[None]:
        """As sentinels do to a primary that comes back when there is another; its data stays."""
        self.server.ask("REPLICAOF", "127.0.0.1", 1)
        try:
            yield
        finally:
            self.server.ask("REPLICAOF", "NO", "ONE")

    @contextmanager
    def full(self) -> Iterator[None]:
        self.server.ask("CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            self.server.ask("CONFIG", "SET", "maxmemory", 0)

    @contextmanager
    def without_a_disk(self) -> Iterator[None]:
        """It cannot save what it is told to save, and takes no writes."""
        in_the_way = self.server.folder / "dump.rdb"
        in_the_way.unlink(missing_ok=True)
        in_the_way.mkdir()
        self.server.ask("CONFIG", "SET", "save", "3600 1")
        self.server.ask("BGSAVE")
        while self.server.ask("INFO", "persistence")["rdb_last_bgsave_status"] != "err":
            time.sleep(0.02)
        try:
            yield
        finally:
            self.server.ask("CONFIG", "SET", "save", "")
            in_the_way.rmdir()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """It starts again, and reads its data so slowly that it has to be told to stop that."""
        with redis.Redis(port=self.server.port) as client:
            client.mset({f"ballast:{number}": secrets.token_hex(500) for number in range(20_000)})
            client.save()
        self.server.stop(kill=True)
        self.server.launch("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
        try:
            yield
        finally:
            self.server.stop(kill=True)
            self.server.start()


REFUSALS: dict[str, Callable[[Refusing], Any]] = {
    "READONLY": Refusing.demoted,
    "OOM": Refusing.full,
    "MISCONF": Refusing.without_a_disk,
    "LOADING": Refusing.loading,
}
