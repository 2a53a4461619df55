"""An entry of the stream: an event, its entry id, and its acknowledgement."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from jobcast.event import Event

A_co = TypeVar("A_co", covariant=True)
"""What `ack` returns: an awaitable, or None."""


class Entry(Generic[A_co]):
    """One event read by a consumer group. Until it is acknowledged, it is delivered again after a restart."""

    __slots__ = ("_acknowledge", "entry_id", "event", "is_redelivered", "raw")

    def __init__(
        self, event: Event, entry_id: str, raw: bytes, is_redelivered: bool, acknowledge: Callable[[str], A_co]
    ) -> None:
        self.event = event
        self.entry_id = entry_id
        """The id in the stream; the event's id is `event.id`."""
        self.raw = raw
        """The event exactly as received."""
        self.is_redelivered = is_redelivered
        """It was delivered before and not acknowledged."""
        self._acknowledge = acknowledge

    def ack(self) -> A_co:
        """Acknowledge it. Retries while Redis is unreachable; a second call does nothing."""
        return self._acknowledge(self.entry_id)

    def __repr__(self) -> str:
        return f"Entry({self.entry_id}, {self.event.status}, {self.event.eval_id!r})"


class Fields(NamedTuple):
    """An entry as Redis returns it."""

    entry_id: str
    event: bytes | None
    """None if the entry has no field `event`."""
    is_expired: bool
    """It is pending in the group, but no longer in the stream."""


def text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def data(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def entries_of(pairs: Any) -> list[Fields]:
    """The entries of a reply, `[(id, fields), …]`, without those that Redis 6 shows as deleted."""
    found = []
    for entry_id, fields in pairs or ():
        if entry_id is None:
            continue
        body = (fields.get(b"event") or fields.get("event")) if fields else None
        found.append(Fields(text(entry_id), data(body), not fields))
    return found


def entries_read(reply: Any) -> list[Fields]:
    """The entries in a reply to XREAD or XREADGROUP of one stream, in any of redis-py's shapes."""
    if not reply:
        return []
    if isinstance(reply, dict):
        (pairs,) = reply.values()
        if len(pairs) == 1 and isinstance(pairs[0], list):  # RESP3 wraps them once more
            pairs = pairs[0]
    else:
        ((_, pairs),) = reply
    return entries_of(pairs)
