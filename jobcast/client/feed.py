"""What AsyncFeed and Feed share: an operation in progress, and its counters."""

from collections.abc import Callable
from typing import Any

from jobcast.client.effects import Effect, FeedState, Operation
from jobcast.client.errors import Unavailable


class Execution:
    """An operation in progress. `effect` is what it waits for; `answer` or `fail` moves it to the next one."""

    def __init__(self, operation: Operation[Any]) -> None:
        self._operation = operation
        self.result: Any = None
        self.effect: Effect | None = None
        """None once the operation has ended; `result` is what it returned."""
        self.answer(None)

    def answer(self, answer: Any) -> None:
        self._move(self._operation.send, answer)

    def fail(self, error: Exception) -> None:
        self._move(self._operation.throw, error)

    def _move(self, move: Callable[[Any], Effect], by: Any) -> None:
        self.effect = None  # also when it raises
        try:
            self.effect = move(by)
        except StopIteration as stop:
            self.result = stop.value


def check_end(execution: Execution) -> None:
    """Raises Unavailable when a log feed was closed before the end of the log."""
    if execution.effect is not None:
        raise Unavailable("closed before the log was read to its end")


class FeedCounters:
    """Counters of a feed, for its user."""

    def __init__(self, state: FeedState) -> None:
        self._state = state

    @property
    def malformed(self) -> int:
        """How many messages or entries were skipped because they were not events."""
        return self._state.malformed

    @property
    def expired(self) -> int:
        """How many pending entries of the group the stream's retention deleted."""
        return self._state.expired

    @property
    def interruptions(self) -> int:
        """How often the connection was lost or could not be opened. A live feed may miss events each time."""
        return self._state.interruptions

    @property
    def raw(self) -> bytes:
        """The last item, exactly as received."""
        return self._state.raw
