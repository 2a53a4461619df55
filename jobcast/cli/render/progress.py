"""Work that may take long: no faster than it should be, its progress shown, and ended in good order by Ctrl-C."""

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
"""What takes longer shows how far it is."""


@asynccontextmanager
async def patience(what: str) -> AsyncIterator[None]:
    """Says what is being waited for to whoever sits at standard error, once that takes longer than it should. Nothing is to
    be written to the same terminal meanwhile."""
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


class Work:
    """`async with Work("replaying", rate) as work`: the first Ctrl-C makes `go_on` false, the second ends the command.

    Its bar is shown to whoever sits at standard error, unless the same terminal is being given the results.
    """

    def __init__(self, what: str, rate: float | None = None, *, is_writing: bool = False) -> None:
        """`rate` is how many turns a second there may be."""
        errors = Console(stderr=True)
        self._is_shown = errors.is_terminal and not (is_writing and sys.stdout.isatty())
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=errors, transient=True)
        self._task = self._bar.add_task(what, total=1.0)
        self._pause = 1 / rate if rate else 0.0
        self._due = self._began = 0.0
        self._asked_to_stop = asyncio.Event()

    async def __aenter__(self) -> "Work":
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

    async def turn(self) -> bool:
        """Wait until it is the next one's turn; false when it is nobody's any more."""
        now = self._now()
        if self._due > now:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked_to_stop.wait(), self._due - now)
        # What was late is not made up for by a rush.
        self._due = max(self._due, now) + self._pause
        return self.go_on

    def is_at(self, done: float) -> None:
        """How much of it is done, from 0 to 1."""
        if self._is_shown:
            if self._now() - self._began > PATIENCE_SECONDS:
                self._bar.start()
            self._bar.update(self._task, completed=done)

    def _stop(self) -> None:
        self._asked_to_stop.set()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
