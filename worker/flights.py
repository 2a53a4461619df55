"""What this worker holds: entries handed out, and entries that wait for an earlier one of their evaluation. Pure.

Of one evaluation a single entry is handed out at a time, in the order of the stream, so that a handler of `completed`
does not overtake one of `running`. That holds within one worker. Two workers may hold entries of the same evaluation.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
"""A target, whatever it is: all that is asked of it here is to be hashable."""


@dataclass(slots=True, eq=False)
class Flight(Generic[T]):
    """One entry on its way."""

    entry: str
    event_id: str
    eval_id: str
    body: str
    targets: tuple[T, ...]
    is_again: bool = False
    """It may have been handed out before: some of its targets may have ended."""
    left: set[str] = field(default_factory=set)
    """Names of those who were handed it and have not ended, as far as this worker knows."""
    departed_at: float = 0.0
    """When it was handed out last, by the monotonic clock."""


class Flights(Generic[T]):
    """At most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._flights: dict[str, Flight[T]] = {}
        self._lines: dict[str, deque[Flight[T]]] = {}
        self._ready: deque[Flight[T]] = deque()

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight[T]]:
        return iter(list(self._flights.values()))

    def __contains__(self, entry: str) -> bool:
        return entry in self._flights

    @property
    def room(self) -> int:
        return self._limit - len(self._flights)

    @property
    def is_anyone_waiting(self) -> bool:
        """Whether the end of a flight would let another begin."""
        return len(self._flights) > len(self._lines)

    @property
    def aloft(self) -> list[Flight[T]]:
        """The ones handed out, in the order of their reading."""
        return [flight for flight in self._flights.values() if flight.left]

    def get(self, entry: str) -> Flight[T] | None:
        return self._flights.get(entry)

    def add(self, flight: Flight[T]) -> None:
        """It is ready once no earlier one of its evaluation is here."""
        self._flights[flight.entry] = flight
        line = self._lines.setdefault(flight.eval_id, deque())
        line.append(flight)
        if len(line) == 1:
            self._ready.append(flight)

    def ready(self) -> Flight[T] | None:
        """The next to be handed out; it stays next until `departed` or `ended` is said of it."""
        return self._ready[0] if self._ready else None

    def departed(self, flight: Flight[T], targets: set[str], now: float) -> None:
        """It was handed to these."""
        self._leave_ready(flight)
        flight.left = targets
        flight.departed_at = now

    def again(self, flight: Flight[T]) -> None:
        """Hand it out once more: its tasks are lost."""
        flight.is_again = True
        flight.left = set()
        if self._lines[flight.eval_id][0] is flight and flight not in self._ready:
            self._ready.append(flight)

    def ended(self, entry: str) -> None:
        """It is acknowledged; harmless when it is not here."""
        flight = self._flights.pop(entry, None)
        if flight is None:
            return
        self._leave_ready(flight)
        line = self._lines[flight.eval_id]
        was_first = line[0] is flight
        line.remove(flight)
        if not line:
            del self._lines[flight.eval_id]
        elif was_first:
            self._ready.append(line[0])

    def clear(self) -> None:
        self._flights.clear()
        self._lines.clear()
        self._ready.clear()

    def _leave_ready(self, flight: Flight[T]) -> None:
        if flight in self._ready:
            self._ready.remove(flight)
