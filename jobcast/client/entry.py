"""An entry of the stream: an event, where it stands, and the word that its work is done."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from jobcast.event import Event

A_co = TypeVar("A_co", covariant=True)
"""What acknowledging gives: something to await, or nothing."""


class Entry(Generic[A_co]):
    """One event of a group. Until it is acknowledged, it comes again after a restart."""

    __slots__ = ("_acknowledge", "entry_id", "event", "is_redelivered", "raw")

    def __init__(
        self, event: Event, entry_id: str, raw: bytes, is_redelivered: bool, acknowledge: Callable[[str], A_co]
    ) -> None:
        self.event = event
        self.entry_id = entry_id
        """Redis' own id of the entry; the event's id is `event.id`."""
        self.raw = raw
        """The event as it was on the wire."""
        self.is_redelivered = is_redelivered
        """It was handed to a consumer before, and not acknowledged."""
        self._acknowledge = acknowledge

    def ack(self) -> A_co:
        """Say that its work is done. Waits while Redis is away; twice is harmless."""
        return self._acknowledge(self.entry_id)

    def __repr__(self) -> str:
        return f"Entry({self.entry_id}, {self.event.status}, {self.event.eval_id!r})"


class Fields(NamedTuple):
    """An entry as Redis shows it."""

    entry_id: str
    event: bytes | None
    """None for an entry without our field `event`."""
    is_expired: bool
    """The group still counts it as pending, and the stream has it no more."""


def text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def data(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def entries_of(pairs: Any) -> list[Fields]:
    """The entries of a reply, `[(id, fields), …]`; what Redis 6 shows as deleted is left out."""
    found = []
    for entry_id, fields in pairs or ():
        if entry_id is None:
            continue
        body = (fields.get(b"event") or fields.get("event")) if fields else None
        found.append(Fields(text(entry_id), data(body), not fields))
    return found


def entries_read(reply: Any) -> list[Fields]:
    """The entries of XREAD's or XREADGROUP's reply for one stream, in any of redis-py's shapes."""
    if not reply:
        return []
    if isinstance(reply, dict):
        (pairs,) = reply.values()
        if len(pairs) == 1 and isinstance(pairs[0], list):  # RESP3 wraps them once more
            pairs = pairs[0]
    else:
        ((_, pairs),) = reply
    return entries_of(pairs)
