"""Handing events to the worker's handlers once more: appended to a stream that nobody but workers reads."""

from typing import NamedTuple

from jobcast.client.dead_letter import DeadLetter
from jobcast.client.effects import Call, Program
from jobcast.client.errors import told
from jobcast.client.scan import Found
from jobcast.event import Event
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.wire import MalformedEvent, decode

# The letter goes after the replay is there, and nothing is written where one of the keys is of another type or Redis is
# full: in no order of failures is an event lost. A second caller finds no letter.
_REPLAY_LETTER = """
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], ARGV[1])
"""


class Replay(NamedTuple):
    """An event to be handled once more."""

    event: Event
    body: bytes
    """As it was told."""
    handler: str
    """The one handler or route that is to have it; empty: all that want it."""
    of: str
    """The entry of the stream of events that it repeats; empty where that is not known."""

    @property
    def fields(self) -> tuple[str | bytes, ...]:
        """In pairs, as the stream has them (see `Keys.replays`)."""
        event = self.event
        return (
            *("id", event.id, "status", event.status.value, "eval_id", event.eval_id),
            *("event", self.body, "handler", self.handler, "of", self.of),
        )


def replay_of(found: Found, handler: str) -> Replay | None:
    """Of an entry of the stream of events; None for one that is no event."""
    body = found.fields.get("event", b"")
    try:
        return Replay(decode(body), body, handler, found.entry_id)
    except MalformedEvent:
        return None


def replay(keys: Keys, of: Replay) -> Program[None]:
    """Raises Unavailable, and then it may have been done nevertheless, or Refused."""
    try:
        yield Call(("XADD", keys.replays, "*", *of.fields))
    except ERRORS as error:
        raise told(error) from error


def replay_letter(keys: Keys, letter: DeadLetter) -> Program[bool]:
    """Replays the event to the handler that gave it up, and takes the letter away, both or neither.

    False when the letter is not there any more. Raises ValueError for a letter without an event, Unavailable, and then it
    may have been done nevertheless, or Refused.
    """
    if letter.event is None:
        raise ValueError(f"letter {letter.letter_id} is no event")
    fields = Replay(letter.event, letter.body, letter.handler, letter.of).fields
    try:
        done = yield Call(("EVAL", _REPLAY_LETTER, 2, keys.dead, keys.replays, letter.letter_id, *fields))
    except ERRORS as error:
        raise told(error) from error
    return bool(done)
