"""A command at a terminal, whose picture can be looked at while it changes."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios

from tests.cli.conftest import JOBCAST
from tests.conftest import eventually

ERASURES = re.compile(rb"(?:\r?\x1b\[2K(?:\x1b\[1A)?)+")
SEQUENCES = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
WIDTH, HEIGHT = 120, 20


class Terminal:
    """Use as an async context manager."""

    def __init__(self, environment: dict[str, str], *arguments: str, **more: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self.process = subprocess.Popen(
            [JOBCAST, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment | {"TERM": "xterm"} | more
        )
        os.close(slave)
        self.given = b""
        """All that it was given."""

    async def __aenter__(self) -> "Terminal":
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def picture(self) -> str:
        """What was drawn since the last was erased, its lines without the blanks between columns."""
        latest = SEQUENCES.sub(b"", ERASURES.split(self.given)[-1]).decode(errors="replace")
        return "\n".join(" ".join(line.split()) for line in latest.splitlines())

    async def shows(self, text: str) -> None:
        await eventually(lambda: text in self.picture)

    async def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return await asyncio.to_thread(self.process.wait, 60)

    def _read(self) -> None:
        try:
            self.given += os.read(self._master, 65536)
        except OSError:  # how a terminal says that its other end is closed
            asyncio.get_running_loop().remove_reader(self._master)
