"""Dead letters: events that a handler, or the worker itself, gave up on. Pure.

Whatever is in the stream is a letter, also what strangers put there; what cannot be read of it is empty.
"""

import re
from typing import NamedTuple

from jobcast.client.entry import text
from jobcast.client.scan import Found
from jobcast.event import Event
from jobcast.wire import MalformedEvent, decode

_ENTRY = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_TRIES = re.compile(r"[0-9]{1,9}")


class DeadLetter(NamedTuple):
    letter_id: str
    """Of the letter; its first part is the time at which it was written, in milliseconds."""
    entry: str
    """What was given up on, as the worker knows it: an id of the stream of events, or `replay:<id>`."""
    handler: str
    """Empty: the entry was set aside as a whole."""
    reason: str
    traceback: str
    tries: int
    body: bytes
    """The event as it was told, or what stood in its place."""
    event: Event | None
    """None for what is not an event; the letter cannot be replayed."""

    @property
    def written(self) -> float:
        """Unix seconds, by Redis' clock."""
        return int(self.letter_id.partition("-")[0]) / 1000

    @property
    def of(self) -> str:
        """The entry of the stream of events that it is about; empty where that is not known."""
        return self.entry if _ENTRY.fullmatch(self.entry) else ""


def letter_of(found: Found) -> DeadLetter:
    fields = found.fields
    body, tries = fields.get("event", b""), text(fields.get("tries"))
    return DeadLetter(
        letter_id=found.entry_id,
        entry=text(fields.get("entry")),
        handler=text(fields.get("handler")),
        reason=text(fields.get("reason")),
        traceback=text(fields.get("traceback")),
        tries=int(tries) if _TRIES.fullmatch(tries) else 0,
        body=body,
        event=_event(body),
    )


def _event(body: bytes) -> Event | None:
    try:
        return decode(body)
    except MalformedEvent:
        return None
