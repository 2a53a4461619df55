"""Dead letters: events that a handler, or the worker itself, gave up on. Pure.

Each entry of the stream is a dead letter, also one that another program wrote; fields that cannot be read are empty.
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
    entry_id: str
    """The id of the dead letter; its first part is the time of writing in milliseconds."""
    entry: str
    """What the worker gave up on: an entry id of the stream of events, or `replay:<id>`."""
    handler: str
    """Empty: no handler could read the entry."""
    reason: str
    traceback: str
    tries: int
    body: bytes
    """The event as published, or what was in its place."""
    event: Event | None
    """None if the body is not an event; then the dead letter cannot be replayed."""

    @property
    def written(self) -> float:
        """Unix seconds of Redis' clock."""
        return int(self.entry_id.partition("-")[0]) / 1000

    @property
    def source_entry(self) -> str:
        """The entry of the stream of events that it is about; empty if not known."""
        return self.entry if _ENTRY.fullmatch(self.entry) else ""


def dead_letter_of(found: Found) -> DeadLetter:
    fields = found.fields
    body, tries = fields.get("event", b""), text(fields.get("tries"))
    return DeadLetter(
        entry_id=found.entry_id,
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
