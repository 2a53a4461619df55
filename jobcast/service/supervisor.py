"""Long-running tasks. One that ends unexpectedly is logged, counted and started again."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from jobcast.backoff import pause
from jobcast.service.threads import HOPELESS, PAUSE_SECONDS

log = logging.getLogger(__name__)
STEADY_SECONDS = 60.0
"""A task that ran so long has recovered: its failures are forgotten."""


class Supervisor:
    """Owns tasks and ends them."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        restarted: Callable[[str], None] = lambda task: None,
    ) -> None:
        """`restarted` is called at each restart with the first word of the task's name."""
        self._restarted = restarted
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._failed: dict[str, float] = {}
        """When each failed last."""

    @asynccontextmanager
    async def running(self, tasks: Mapping[str, Callable[[], Awaitable[object]]]) -> AsyncIterator[None]:
        """By name, tasks that run until the end of the block. One that returns earlier has failed as well."""
        started = [asyncio.create_task(self._keep(name, run), name=name) for name, run in tasks.items()]
        try:
            yield
        finally:
            await _end(started)

    def hopeless(self) -> str | None:
        """Which task fails again and again, if one does."""
        for name, count in self._failures.items():
            if count >= HOPELESS and self._clock() - self._failed[name] < STEADY_SECONDS:
                return f"task {name} keeps failing"
        return None

    async def _keep(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        me = asyncio.current_task()
        assert me is not None, "it is a task of ours"
        while True:
            started = self._clock()
            try:
                await run()
            except asyncio.CancelledError:
                if me.cancelling():
                    raise
                # What it waited for was cancelled, not the task itself: it would be gone without a line.
                self._count(name, started)
                log.exception("task failed", extra={"task": name})
            except Exception:
                self._count(name, started)
                log.exception("task failed", extra={"task": name})
            else:
                if me.cancelling():  # and took it for something else
                    return
                self._count(name, started)
                log.error("task ended", extra={"task": name})
            await asyncio.sleep(pause(self._failures[name], PAUSE_SECONDS))

    def _count(self, name: str, started: float) -> None:
        self._restarted(name.split(" ")[0])
        now = self._clock()
        self._failures[name] = 1 if now - started > STEADY_SECONDS else self._failures.get(name, 0) + 1
        self._failed[name] = now


async def _end(tasks: list["asyncio.Task[None]"]) -> None:
    while tasks:
        # Again and again: in Python 3.11 a wait_for, as libraries use it, may swallow a cancellation as it ends.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.1)
        tasks = [task for task in tasks if not task.done()]
