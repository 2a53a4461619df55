"""Replays: events appended to a stream that only workers read, to be handled again."""

from typing import NamedTuple

from jobcast.client.dead_letter import DeadLetter
from jobcast.client.effects import Call, Operation
from jobcast.client.errors import to_client_error
from jobcast.client.scan import Found
from jobcast.event import Event
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.wire import MalformedEvent, decode

# The dead letter is deleted after the replay is added, and nothing is written if a key has another type or Redis is
# full: no failure loses an event. A second caller finds no dead letter.
_REPLAY_DEAD_LETTER = """
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], ARGV[1])
"""


class Replay(NamedTuple):
    """An event to be handled again."""

    event: Event
    body: bytes
    """As it was published."""
    handler: str
    """The only handler or route that gets it; empty: all that want it."""
    of: str
    """The entry of the stream of events that it repeats; empty if not known."""

    @property
    def fields(self) -> tuple[str | bytes, ...]:
        """In pairs, as the stream has them (see `Keys.replays`)."""
        event = self.event
        return (
            *("id", event.id, "status", event.status.value, "eval_id", event.eval_id),
            *("event", self.body, "handler", self.handler, "of", self.of),
        )


def replay_of(found: Found, handler: str) -> Replay | None:
    """The replay of an entry of the stream of events; None if it is not an event."""
    body = found.fields.get("event", b"")
    try:
        return Replay(decode(body), body, handler, found.entry_id)
    except MalformedEvent:
        return None


def replay(keys: Keys, of: Replay) -> Operation[None]:
    """Add it. Raises Refused or Unavailable; after Unavailable it may have been added."""
    try:
        yield Call(("XADD", keys.replays, "*", *of.fields))
    except ERRORS as error:
        raise to_client_error(error) from error


def replay_dead_letter(keys: Keys, letter: DeadLetter) -> Operation[bool]:
    """Add a replay for the handler that gave the event up and delete the dead letter, both or neither.

    False when the dead letter no longer exists. Raises ValueError for a dead letter without an event, Refused, or
    Unavailable; after Unavailable it may have been done.
    """
    if letter.event is None:
        raise ValueError(f"dead letter {letter.entry_id} is not an event")
    fields = Replay(letter.event, letter.body, letter.handler, letter.source_entry).fields
    try:
        done = yield Call(("EVAL", _REPLAY_DEAD_LETTER, 2, keys.dead, keys.replays, letter.entry_id, *fields))
    except ERRORS as error:
        raise to_client_error(error) from error
    return bool(done)
