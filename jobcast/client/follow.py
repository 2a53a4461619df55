"""The stream without a group: from a place on, entry after entry; the place is kept in this process alone."""

import re
from collections import deque
from collections.abc import Sequence

from jobcast.client.effects import Call, Give, Health, Program, Ready
from jobcast.client.entry import entries_of, entries_read
from jobcast.client.group import BLOCK_SECONDS, END_OF_STREAM, START_OF_STREAM
from jobcast.redis.connection import ERRORS
from jobcast.wire import MalformedEvent, decode

BATCH = 100
"""Entries in one reply: with the longest default output, 6.5 MB."""
_PLACE = re.compile(r"\$|[0-9]{1,20}(-[0-9]{1,20})?")


def place(since: str) -> str:
    """The place itself. Raises ValueError for what is not one."""
    if not _PLACE.fullmatch(since):
        raise ValueError(f"{since!r} is not a place in the stream; it must be 0 (all), $ (new) or an entry's id")
    return since


def follow(stream: str, since: str, health: Health) -> Program[None]:
    """Gives events for ever, those after `since` first. Goes on after a loss from where it was."""
    given: deque[str] = deque(maxlen=BATCH)
    while True:
        try:
            if since == END_OF_STREAM:
                since = (yield from _last(stream)) or START_OF_STREAM
            if given:
                since = yield from _still_there(stream, given)
                given.clear()
            given.append(since)
            health.found()
            yield Ready()
            while True:
                block = int(BLOCK_SECONDS * 1000)
                reply = yield Call(("XREAD", "COUNT", BATCH, "BLOCK", block, "STREAMS", stream, since))
                health.found()
                entries = entries_read(reply)
                if not entries and (yield from _is_ahead(stream, since)):
                    break
                for entry in entries:
                    since = entry.entry_id
                    given.append(since)
                    try:
                        event = decode(entry.event or b"")
                    except MalformedEvent:
                        health.malformed += 1
                        continue
                    health.raw = entry.event or b""
                    yield Give(event)
        except ERRORS as error:
            yield health.lost(error)


def _is_ahead(stream: str, since: str) -> Program[bool]:
    """Whether the stream is not even there yet. A loss is no sign that this may be so: redis-py makes a connection that
    broke while it lay idle anew without a word."""
    last = yield from _last(stream)
    return _order(since) > _order(last or START_OF_STREAM)


def _still_there(stream: str, given: Sequence[str]) -> Program[str]:
    """The last place that the stream still has. Redis may have forgotten the latest entries, or all, and by a clock that
    is behind what was told since would have lower ids."""
    found = entries_of((yield Call(("XRANGE", stream, given[0], given[-1]))))
    kept = {entry.entry_id for entry in found}
    for entry_id in reversed(given):
        if entry_id in kept:
            return entry_id
    return START_OF_STREAM if (yield from _is_ahead(stream, given[0])) else given[0]


def _last(stream: str) -> Program[str | None]:
    entries = entries_of((yield Call(("XREVRANGE", stream, "+", "-", "COUNT", 1))))
    return entries[0].entry_id if entries else None


def _order(entry_id: str) -> tuple[int, int]:
    millis, _, number = entry_id.partition("-")
    return int(millis), int(number or 0)
