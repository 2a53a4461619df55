"""What this worker is to hand out, and what it has handed out. Pure.

Each is the first of its evaluation that has not ended: the others wait in Redis (ordering.lua), and take no place here.
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
    """Its ordering key; empty for an entry without order."""
    body: str
    targets: tuple[T, ...]
    is_again: bool = False
    """It may have been handed out before: some of its targets may have ended."""
    left: set[str] = field(default_factory=set)
    """Names of the targets that were handed it and have not ended, as far as this worker knows."""
    sent_at: float = 0.0
    """When it was handed out last, by the monotonic clock."""


class InFlightEntries(Generic[T]):
    """About `limit` of them: the next of an evaluation may follow the one that ended beyond it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight: dict[str, InFlight[T]] = {}
        self._ready: dict[str, InFlight[T]] = {}

    def __len__(self) -> int:
        return len(self._in_flight)

    def __contains__(self, entry: str) -> bool:
        return entry in self._in_flight

    @property
    def room(self) -> int:
        return max(0, self._limit - len(self._in_flight))

    @property
    def is_crowded(self) -> bool:
        """Whether there is little room for more."""
        return self.room < self._limit / 4

    @property
    def sent(self) -> list[InFlight[T]]:
        """Those that were handed out, in the order in which they came."""
        return [item for item in self._in_flight.values() if item.left]

    def get(self, entry: str) -> InFlight[T] | None:
        return self._in_flight.get(entry)

    def add(self, item: InFlight[T]) -> None:
        self._in_flight[item.entry] = item
        self._ready[item.entry] = item

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def is_over(self, entry: str) -> bool:
        """Whether it was handed out, and no end is awaited."""
        item = self._in_flight.get(entry)
        return item is not None and not item.left and entry not in self._ready

    def ready(self) -> list[InFlight[T]]:
        """To be handed out, in this order; they stay until `mark_sent` or `ended`."""
        return list(self._ready.values())

    def mark_sent(self, item: InFlight[T], now: float) -> None:
        """It was handed to all targets that are `left`."""
        self._ready.pop(item.entry, None)
        item.sent_at = now

    def resend(self, item: InFlight[T], target: str | None = None) -> None:
        """Hand it out once more: the task of this target is lost, or without one those of all."""
        item.is_again = True
        item.left = item.left - {target} if target else set()
        self._ready.setdefault(item.entry, item)

    def ended(self, entry: str) -> None:
        """It is acknowledged. Does nothing when it is not here."""
        self._in_flight.pop(entry, None)
        self._ready.pop(entry, None)

    def clear(self) -> None:
        self._in_flight.clear()
        self._ready.clear()
