"""What this worker is to hand out, and what it has handed out. Pure.

Each is the first of its evaluation that nobody has ended: the others wait in Redis (ordering.lua), and take no place here.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
"""A target, whatever it is: all that is asked of it here is to be hashable."""


@dataclass(slots=True, eq=False)
class InFlight(Generic[T]):
    """One entry on its way."""

    entry: str
    event_id: str
    eval_id: str
    """Whose lane it is in; empty when it is in none."""
    body: str
    targets: tuple[T, ...]
    is_again: bool = False
    """It may have been handed out before: some of its targets may have ended."""
    left: set[str] = field(default_factory=set)
    """Names of those who were handed it and have not ended, as far as this worker knows."""
    departed_at: float = 0.0
    """When it was handed out last, by the monotonic clock."""


class InFlightEntries(Generic[T]):
    """About `limit` of them: who ends one may be given the next of its evaluation beyond it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._flights: dict[str, InFlight[T]] = {}
        self._ready: dict[str, InFlight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, entry: str) -> bool:
        return entry in self._flights

    @property
    def room(self) -> int:
        return max(0, self._limit - len(self._flights))

    @property
    def is_crowded(self) -> bool:
        """Whether there is little room for more."""
        return self.room < self._limit / 4

    @property
    def aloft(self) -> list[InFlight[T]]:
        """The ones handed out, in the order of their coming."""
        return [flight for flight in self._flights.values() if flight.left]

    def get(self, entry: str) -> InFlight[T] | None:
        return self._flights.get(entry)

    def add(self, flight: InFlight[T]) -> None:
        self._flights[flight.entry] = flight
        self._ready[flight.entry] = flight

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def is_over(self, entry: str) -> bool:
        """Whether it was handed out, and nobody's end is waited for."""
        flight = self._flights.get(entry)
        return flight is not None and not flight.left and entry not in self._ready

    def ready(self) -> list[InFlight[T]]:
        """To be handed out, in this order; they stay until `departed` or `ended` is said of them."""
        return list(self._ready.values())

    def departed(self, flight: InFlight[T], now: float) -> None:
        """It was handed to all who are `left`."""
        self._ready.pop(flight.entry, None)
        flight.departed_at = now

    def again(self, flight: InFlight[T], target: str | None = None) -> None:
        """Hand it out once more: the task of this target is lost, or those of all. Who is `left` has it still."""
        flight.is_again = True
        flight.left = flight.left - {target} if target else set()
        self._ready.setdefault(flight.entry, flight)

    def ended(self, entry: str) -> None:
        """It is acknowledged; harmless when it is not here."""
        self._flights.pop(entry, None)
        self._ready.pop(entry, None)

    def clear(self) -> None:
        self._flights.clear()
        self._ready.clear()
