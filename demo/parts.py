"""Starts the parts as the processes they are, and ends every one of them, whatever happens."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from testbed.pages import page
from testbed.ports import free_port
from testbed.valkey import NotStarted, ValkeyServer

START_SECONDS = 30.0
"""A laptop that is busy with something else starts a Python process in 5 s."""
STOP_SECONDS = 10.0


class Parts:
    """A folder of its own, and the processes in it. Use as a context manager."""

    def __enter__(self) -> "Parts":
        self.folder = Path(tempfile.mkdtemp(prefix="jobcast-demo-"))
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.ports = {name: free_port() for name in ("controller", "worker")}
        self._valkey = ValkeyServer(self.folder)
        self.redis_url = self._valkey.url
        return self

    def __exit__(self, *_: object) -> None:
        # In reverse: who reads from whom ends first, so that nobody complains of the other's end.
        for _name, process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._valkey.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_all(self) -> str:
        """Start them in order, each when the one before is ready; returns devcluster's URL. Raises NotStarted."""
        self._valkey.start()
        kubeconfig = self.folder / "kubeconfig"
        self._start("devcluster", [sys.executable, "-m", "devcluster", "--kubeconfig", str(kubeconfig)])
        self._wait("devcluster", lambda: "devcluster ready" in self._said("devcluster"))
        found = re.search(r"url=(\S+)", self._said("devcluster"))
        assert found is not None, "its ready line says where it is"
        environment = {
            "KUBECONFIG": str(kubeconfig),
            "REDIS_URL": self.redis_url,
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(self.ports["controller"]),
            "WORKER_HTTP_PORT": str(self.ports["worker"]),
            "HANDLERS": "demo.handlers",
            "SWEEP_SECONDS": "10",
            "LOG_FORMAT": "json",
        }
        self._start("controller", [sys.executable, "-m", "controller"], environment)
        celery = [sys.executable, "-m", "celery", "-A", "worker", "worker", "--pool", "threads", "--concurrency", "2"]
        self._start("worker", [*celery, "--loglevel", "warning"], environment)
        self._wait("controller", lambda: _answers(self.ports["controller"], "/readyz"))
        self._wait("worker", lambda: _answers(self.ports["worker"], "/livez"))
        return found.group(1)

    def _start(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=Path(__file__).resolve().parent.parent,
                # A session of its own: Ctrl-C at the terminal is ours to pass on, in order.
                start_new_session=True,
            )
        self._processes.append((name, process))

    def _wait(self, name: str, is_ready: Callable[[], bool]) -> None:
        process = dict(self._processes)[name]
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                how = "did not get ready" if process.poll() is None else f"ended with code {process.returncode}"
                raise NotStarted(f"{name} {how}:\n{self._said(name)[-2000:]}")
            time.sleep(0.05)

    def _said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


def _answers(port: int, path: str) -> bool:
    return page(port, path, 2)[0] == 200
