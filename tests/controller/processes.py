"""A controller as a process of its own: for signals, exit codes, and deaths."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.conftest import eventually
from tests.controller.world import World

ROOT = Path(__file__).resolve().parents[2]


def environment(**settings: Any) -> dict[str, str]:
    """Ours, without what would set up a controller, and with these settings."""
    kept = ("PATH", "HOME", "LANG", "KUBECONFIG")
    given = {name: os.environ[name] for name in kept if name in os.environ}
    return given | {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": "0"} | settings


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "controller", *arguments]


class Process:
    """`with Process(world) as process:` runs it; it is killed at the end if it still runs."""

    def __init__(self, world: World, folder: Path, *arguments: str, **settings: str) -> None:
        given = {"REDIS_URL": world.redis_url, "NAMESPACES": world.namespace, "KEY_PREFIX": world.prefix}
        self._environment = environment(**given | settings)
        self._arguments = arguments
        self._world = world
        self._number = len(list(folder.glob("controller-*.err")))
        self._errors = folder / f"controller-{self._number}.err"
        self._output = folder / f"controller-{self._number}.out"

    def __enter__(self) -> Self:
        with self._errors.open("wb") as errors, self._output.open("wb") as output:
            self.popen = subprocess.Popen(
                command(*self._arguments), env=self._environment, cwd=ROOT, stdout=output, stderr=errors
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(60)

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    @property
    def output(self) -> str:
        return self._output.read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What it logged under that name."""
        found = [json.loads(line) for line in self.errors.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    async def started(self) -> Self:
        """Wait until it listens for probes."""
        await eventually(lambda: self.lines("controller started") or self.popen.poll() is not None)
        assert self.popen.poll() is None, self.errors
        return self

    async def ready(self) -> Self:
        await self.started()

        async def is_ready() -> bool:
            return (await self.get("/readyz"))[0] == 200

        await eventually(is_ready)
        return self

    async def get(self, path: str) -> tuple[int, str]:
        port = self.lines("controller started")[0]["http"]
        async with self._world.http.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    async def exit_code(self, timeout: float = 60) -> int:
        await eventually(lambda: self.popen.poll() is not None, timeout)
        return self.popen.returncode
