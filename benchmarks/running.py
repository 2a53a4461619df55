"""A controller in a process of its own, and what can be asked of it from outside."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.replay import NAMESPACE
from testbed.pages import page

ROOT = Path(__file__).resolve().parent.parent


class Running:
    def __init__(self, folder: str, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        own = {
            "NAMESPACES": NAMESPACE,
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(self._port),
            "PATH": os.environ["PATH"],
        }
        self._log = Path(folder) / "controller.log"
        self.began = time.time()
        """Unix seconds, just before it was started."""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "controller"], env=own | settings, cwd=ROOT, stdout=log, stderr=log
            )

    def rss(self) -> int:
        """Bytes that it has in memory now."""
        return memory(self.process.pid, "VmRSS")

    def peak(self) -> int:
        """The most there ever was."""
        return memory(self.process.pid, "VmHWM")

    def get(self, path: str) -> tuple[int, str]:
        return page(self._port, path, 10)

    def wait_until_ready(self) -> None:
        while True:
            if self.get("/readyz")[0] == 200:
                return
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.02)


def memory(pid: int | str, field: str) -> int:
    """Bytes, as Linux counts them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def running(folder: str, **settings: str) -> Iterator[Running]:
    controller = Running(folder, **settings)
    try:
        yield controller
    finally:
        if controller.process.poll() is None:
            controller.process.terminate()
        controller.process.wait(60)
