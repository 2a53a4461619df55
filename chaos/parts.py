"""Controllers and workers as real processes. One that ends by itself is counted and restarted."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from testbed.pages import page
from testbed.ports import free_port

ROOT = Path(__file__).parents[1]
READY_SECONDS = 60.0
"""For all of them at once on a busy machine."""
END_SECONDS = 40.0
"""From SIGTERM on; a part has 25 s of grace."""
AGAIN_SECONDS = 0.5
"""Before a part that ended by itself is started again, as its Deployment would."""


class Part:
    def __init__(self, name: str, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.port = free_port()
        self.is_down = False
        """On purpose."""
        self.deaths: list[int] = []
        """Exit codes with which it ended by itself."""
        self.process: subprocess.Popen[bytes] | None = None
        setting = "HTTP_PORT" if self.is_controller else "WORKER_HTTP_PORT"
        own = {"HTTP_HOST": "127.0.0.1", "TMPDIR": str(folder), setting: str(self.port)}
        self._environment = {**os.environ, **environment, **own}

    @property
    def is_controller(self) -> bool:
        return self.name.startswith("controller")

    def start(self, **environment: str) -> None:
        """Unless it runs."""
        self._count_death()
        self.is_down = False
        if self.process is not None and self.process.poll() is None:
            return
        command = [sys.executable, "-m"]
        if self.is_controller:
            command += ["controller"]
        else:
            command += ["celery", "-A", "worker", "worker", "-P", "threads", "-c", "2", "-l", "info"]
            command += ["-n", f"{self.name}@chaos"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**self._environment, **environment},
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        self._count_death()
        self.is_down = True
        if self.process is not None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)

    async def terminate(self) -> bool:
        """SIGTERM; False if it had to be killed."""
        self._count_death()
        self.is_down = True
        if self.process is None:
            return True
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            await asyncio.to_thread(self.process.wait, END_SECONDS)
        except subprocess.TimeoutExpired:
            await self.kill()
            return False
        return True

    async def keep_up(self) -> None:
        """Never ends; to be run as a task."""
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            if self._count_death():
                self.start()

    def _count_death(self) -> bool:
        """Whether it has ended by itself, once each: also if a fault begins or ends before that is checked."""
        code = None if self.is_down or self.process is None else self.process.poll()
        if code is None:
            return False
        self.deaths.append(code)
        self.process = None
        return True

    async def ready(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(READY_SECONDS):
            while not await asyncio.to_thread(self._answers, "/readyz"):
                await asyncio.sleep(0.1)

    def _answers(self, path: str) -> bool:
        return page(self.port, path, 2)[0] == 200
