"""What the async and the plain feed have in common: a program, the effect it waits for, and how it fares."""

from collections.abc import Callable
from typing import Any

from jobcast.client.effects import Effect, Health, Program
from jobcast.client.errors import Unavailable


class Running:
    """A program under way. `effect` is what it waits for; `answer` or `fail` moves it to the next one."""

    def __init__(self, program: Program[Any]) -> None:
        self._program = program
        self.result: Any = None
        self.effect: Effect | None = None
        """None once it has ended; `result` is what it returned."""
        self.answer(None)

    def answer(self, answer: Any) -> None:
        self._move(self._program.send, answer)

    def fail(self, error: Exception) -> None:
        self._move(self._program.throw, error)

    def _move(self, move: Callable[[Any], Effect], by: Any) -> None:
        self.effect = None  # also when it raises
        try:
            self.effect = move(by)
        except StopIteration as stop:
            self.result = stop.value


def check_end(running: Running) -> None:
    """For whoever takes the end of the items for the end of a log. Raises Unavailable when it was closed before that."""
    if running.effect is not None:
        raise Unavailable("closed before the log was read to its end")


class FeedStats:
    """How a feed fares, for whoever iterates over it."""

    def __init__(self, health: Health) -> None:
        self._health = health

    @property
    def malformed(self) -> int:
        """How many messages or entries were not events, and were skipped."""
        return self._health.malformed

    @property
    def expired(self) -> int:
        """How many pending entries of the group the stream's retention had dropped."""
        return self._health.expired

    @property
    def interruptions(self) -> int:
        """How often the connection was lost or could not be made. Of a live feed, each may have cost events."""
        return self._health.interruptions

    @property
    def raw(self) -> bytes:
        """The item given last, exactly as it was on the wire."""
        return self._health.raw
