"""What a Redis that runs may refuse, and with which word it says so."""

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.conftest import ValkeyServer


class Refusing:
    """A Valkey, and how to make it refuse and take again."""

    def __init__(self, server: ValkeyServer, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def ask(self, *words: Any) -> Any:
        with redis.Redis(port=self.server.port) as client:
            return client.execute_command(*words)

    @contextmanager
    def demoted(self) -> Iterator[None]:
        """As sentinels do to a primary that comes back when there is another; its data stays."""
        self.ask("REPLICAOF", "127.0.0.1", 1)
        try:
            yield
        finally:
            self.ask("REPLICAOF", "NO", "ONE")

    @contextmanager
    def full(self) -> Iterator[None]:
        self.ask("CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            self.ask("CONFIG", "SET", "maxmemory", 0)

    @contextmanager
    def without_a_disk(self) -> Iterator[None]:
        """It cannot save what it is told to save, and takes no writes."""
        in_the_way = self.folder / "dump.rdb"
        in_the_way.unlink(missing_ok=True)
        in_the_way.mkdir()
        self.ask("CONFIG", "SET", "save", "3600 1")
        self.ask("BGSAVE")
        while self.ask("INFO", "persistence")["rdb_last_bgsave_status"] != "err":
            time.sleep(0.02)
        try:
            yield
        finally:
            self.ask("CONFIG", "SET", "save", "")
            in_the_way.rmdir()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """It starts again, and reads its data so slowly that it has to be told to stop that."""
        with redis.Redis(port=self.server.port) as client:
            client.mset({f"ballast:{number}": secrets.token_hex(500) for number in range(20_000)})
            client.save()
        self.server.stop(kill=True)
        slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]
        command = [self.server._binary, "--port", str(self.server.port), "--bind", "127.0.0.1", "--save", "", *slow]
        process = subprocess.Popen([*command, "--dir", str(self.folder)], stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.wait()
            self.server.start()


REFUSALS: dict[str, Callable[[Refusing], Any]] = {
    "READONLY": Refusing.demoted,
    "OOM": Refusing.full,
    "MISCONF": Refusing.without_a_disk,
    "LOADING": Refusing.loading,
}
