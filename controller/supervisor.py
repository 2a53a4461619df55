"""Long tasks, each with a name, an owner and an end. One that ends unexpectedly is logged, counted and started again."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from controller import metrics

log = structlog.get_logger()

PAUSE_SECONDS = (0.1, 5.0)
"""Before a task is started again, first and longest."""
STEADY_SECONDS = 60.0
"""A task that ran so long has recovered: its failures are forgotten."""
HOPELESS = 20
"""Failures in a row after which a restart of the process is the better try: a minute and a half of trying."""


class Supervisor:
    """Owns tasks. `stop` ends them, the last started first."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._failures: dict[str, int] = {}
        self._failed: dict[str, float] = {}
        """When each failed last."""

    def start(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        self._tasks.append(asyncio.create_task(self._keep(name, run), name=name))

    async def stop(self) -> None:
        for task in reversed(self._tasks):
            # Again and again: in Python 3.11 a wait_for, as libraries use it, may swallow a cancellation as it ends.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=0.1)
        self._tasks.clear()

    def hopeless(self) -> str | None:
        """The task that cannot be brought back, if there is one."""
        for name, count in self._failures.items():
            if count >= HOPELESS and time.monotonic() - self._failed[name] < STEADY_SECONDS:
                return f"task {name} keeps failing"
        return None

    async def _keep(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        while True:
            started = time.monotonic()
            try:
                await run()
                log.error("task ended", task=name)
            except Exception:
                log.exception("task failed", task=name)
            metrics.task_restarts.labels(name.split(" ")[0]).inc()
            failures = 1 if time.monotonic() - started > STEADY_SECONDS else self._failures.get(name, 0) + 1
            self._failures[name] = failures
            self._failed[name] = time.monotonic()
            first, longest = PAUSE_SECONDS
            await asyncio.sleep(min(first * 2 ** min(failures - 1, 20), longest) * random.uniform(0.5, 1))  # noqa: S311
