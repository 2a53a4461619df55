"""Reading the stream without a group: from a position on; only this process remembers the position."""

import re
from collections import deque
from collections.abc import Sequence

from jobcast.client.effects import Call, FeedState, Give, Operation, Ready
from jobcast.client.entry import entries_of, entries_read
from jobcast.client.group import BLOCK_SECONDS, END_OF_STREAM, START_OF_STREAM
from jobcast.redis.connection import ERRORS
from jobcast.wire import MalformedEvent, decode

BATCH = 100
"""Entries in one reply: at most 6.5 MB with the default excerpt size."""
_POSITION = re.compile(r"\$|[0-9]{1,20}(-[0-9]{1,20})?")


def check_position(since: str) -> str:
    """The position itself. Raises ValueError for anything else."""
    if not _POSITION.fullmatch(since):
        raise ValueError(f"{since!r} is not a position in the stream; use 0 (all), $ (new) or an entry id")
    return since


def follow(stream: str, since: str, state: FeedState) -> Operation[None]:
    """Gives the events after `since`, forever. After a lost connection it continues where it was."""
    given: deque[str] = deque(maxlen=BATCH)
    while True:
        try:
            if since == END_OF_STREAM:
                since = (yield from _last(stream)) or START_OF_STREAM
            if given:
                since = yield from _last_kept(stream, given)
                given.clear()
            given.append(since)
            state.connected()
            yield Ready()
            while True:
                block = int(BLOCK_SECONDS * 1000)
                reply = yield Call(("XREAD", "COUNT", BATCH, "BLOCK", block, "STREAMS", stream, since))
                state.connected()
                entries = entries_read(reply)
                if not entries and (yield from _is_past_end(stream, since)):
                    break
                for entry in entries:
                    since = entry.entry_id
                    given.append(since)
                    try:
                        event = decode(entry.event or b"")
                    except MalformedEvent:
                        state.malformed += 1
                        continue
                    state.raw = entry.event or b""
                    yield Give(event)
        except ERRORS as error:
            yield state.disconnected(error)


def _is_past_end(stream: str, since: str) -> Operation[bool]:
    """Whether the stream ends before this position. A lost connection does not show it: redis-py silently reopens a
    connection that broke while idle."""
    last = yield from _last(stream)
    return _order(since) > _order(last or START_OF_STREAM)


def _last_kept(stream: str, given: Sequence[str]) -> Operation[str]:
    """The last position that the stream still has. Redis may have lost the latest entries, or all; with a clock that is
    behind, entries published since then have lower ids."""
    found = entries_of((yield Call(("XRANGE", stream, given[0], given[-1]))))
    kept = {entry.entry_id for entry in found}
    for entry_id in reversed(given):
        if entry_id in kept:
            return entry_id
    return START_OF_STREAM if (yield from _is_past_end(stream, given[0])) else given[0]


def _last(stream: str) -> Operation[str | None]:
    entries = entries_of((yield Call(("XREVRANGE", stream, "+", "-", "COUNT", 1))))
    return entries[0].entry_id if entries else None


def _order(entry_id: str) -> tuple[int, int]:
    millis, _, number = entry_id.partition("-")
    return int(millis), int(number or 0)
