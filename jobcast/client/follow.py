"""The stream without a group: from a place on, entry after entry; the place is kept in this process alone."""

import re

from jobcast.client.entry import entries_of, entries_read
from jobcast.client.group import BLOCK_SECONDS, END_OF_STREAM
from jobcast.client.program import Call, Give, Health, Program, Ready
from jobcast.connection import ERRORS
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
    while True:
        try:
            if since == END_OF_STREAM:
                last = entries_of((yield Call(("XREVRANGE", stream, "+", "-", "COUNT", 1))))
                since = last[0].entry_id if last else "0"
            health.found()
            yield Ready()
            while True:
                block = int(BLOCK_SECONDS * 1000)
                reply = yield Call(("XREAD", "COUNT", BATCH, "BLOCK", block, "STREAMS", stream, since))
                health.found()
                for entry in entries_read(reply):
                    since = entry.entry_id
                    try:
                        event = decode(entry.event or b"")
                    except MalformedEvent:
                        health.malformed += 1
                        continue
                    health.raw = entry.event or b""
                    yield Give(event)
        except ERRORS as error:
            yield health.lost(error)
