"""Long tasks, each with a name, an owner and an end. One that ends unexpectedly is logged, counted and started again."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

from jobcast.backoff import pause

log = structlog.get_logger()

PAUSE_SECONDS = (0.1, 5.0)
"""Before a task is started again, first and longest."""
STEADY_SECONDS = 60.0
"""A task that ran so long has recovered: its failures are forgotten."""
HOPELESS = 20
"""Failures in a row after which a restart of the process is the better try: a minute and a half of trying."""


class Supervisor:
    """Owns tasks."""

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
        """By name, tasks that run until the end of the block. None is to end by itself: that is a failure like any other."""
        started = [asyncio.create_task(self._keep(name, run), name=name) for name, run in tasks.items()]
        try:
            yield
        finally:
            await _end(started)

    def hopeless(self) -> str | None:
        """The task that cannot be brought back, if there is one."""
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
                # Somebody it waited for was cancelled: it would be gone without a word.
                self._count(name, started)
                log.exception("task failed", task=name)
            except Exception:
                self._count(name, started)
                log.exception("task failed", task=name)
            else:
                if me.cancelling():  # and took it for something else
                    return
                self._count(name, started)
                log.error("task ended", task=name)
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
