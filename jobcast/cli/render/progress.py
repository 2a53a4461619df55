"""Long tasks: at a limited rate, with a progress bar, and ended in order by Ctrl-C."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from jobcast.cli.render.output import escape

PATIENCE_SECONDS = 1.0
"""Longer tasks show their progress."""


@asynccontextmanager
async def waiting_for(what: str) -> AsyncIterator[None]:
    """Shows what the command waits for, if it takes long and standard error is a terminal. The body must not write to that
    terminal."""
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield
        return
    status = errors.status(escape(what))
    timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, status.start)
    try:
        yield
    finally:
        timer.cancel()
        status.stop()


class Task:
    """`async with Task("replaying", rate) as task`: the first Ctrl-C makes `go_on` false, the second ends the command.

    The bar is shown if standard error is a terminal, unless results are written to the same terminal.
    """

    def __init__(self, what: str, rate: float | None = None, *, is_writing: bool = False) -> None:
        """`rate`: at most this many steps per second."""
        errors = Console(stderr=True)
        self._is_shown = errors.is_terminal and not (is_writing and sys.stdout.isatty())
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=errors, transient=True)
        self._row = self._bar.add_task(what, total=1.0)
        self._pause = 1 / rate if rate else 0.0
        self._due = self._began = 0.0
        self._asked_to_stop = asyncio.Event()

    async def __aenter__(self) -> "Task":
        self._began = self._now()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        if self._is_shown:
            self._bar.stop()

    @property
    def go_on(self) -> bool:
        return not self._asked_to_stop.is_set()

    async def next_step(self) -> bool:
        """Wait for the next step; false after Ctrl-C."""
        now = self._now()
        if self._due > now:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked_to_stop.wait(), self._due - now)
        # A late step is not made up for by faster ones.
        self._due = max(self._due, now) + self._pause
        return self.go_on

    def show_progress(self, done: float) -> None:
        """`done`: from 0 to 1."""
        if self._is_shown:
            if self._now() - self._began > PATIENCE_SECONDS:
                self._bar.start()
            self._bar.update(self._row, completed=done)

    def _stop(self) -> None:
        self._asked_to_stop.set()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
