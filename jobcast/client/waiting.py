"""Waiting for ends that are published before, while or after they are asked for.

Subscribe, then read the record, then listen: the record has an end published before the subscription, a message brings
one published after it. The record is read again after each lost connection, and regularly.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from jobcast.client.effects import FeedState, Give, Operation, Pause, Ready
from jobcast.client.record import Record, batches, read, read_many
from jobcast.client.subscription import Subscription
from jobcast.event import TERMINAL, Cancelled, Completed, Event, Failed, Status
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.wire import UNREADABLE, MalformedEvent, decode

REREAD_SECONDS = 10.0
"""How often records are read again. Nothing known needs it; it limits the damage of an unknown flaw."""
ENDS = tuple(status for status in Status if status in TERMINAL)

End: TypeAlias = Completed | Failed | Cancelled


class _EvalId(msgspec.Struct):
    """The only field of an event that is needed to skip other evaluations' events, with their outputs."""

    eval_id: str


_eval_id = msgspec.json.Decoder(_EvalId)


def wait(keys: Keys, eval_id: str, timeout: float | None, state: FeedState) -> Operation[End]:
    """The end of the evaluation's newest Job. Raises TimeoutError, Refused, or MalformedEvent for an unreadable end."""
    return Ends(keys, [eval_id], timeout, state).next()


def wait_all(keys: Keys, eval_ids: Iterable[str], timeout: float | None, state: FeedState) -> Operation[None]:
    """Gives the end of each evaluation once, in the order in which they are known. Raises as `wait` does."""
    ends = Ends(keys, eval_ids, timeout, state)
    yield Ready()
    while ends.unended:
        yield Give((yield from ends.next()))


class Ends:
    """The ends of several evaluations, over one subscription."""

    def __init__(self, keys: Keys, eval_ids: Iterable[str], timeout: float | None, state: FeedState) -> None:
        self.unended = dict.fromkeys(eval_ids)
        """Ids whose end is not returned yet, in their order."""
        self._keys = keys
        self._timeout = timeout
        self._deadline = time.monotonic() + (float("inf") if timeout is None else max(timeout, 0.0))
        self._state = state
        self._subscription = Subscription(tuple(map(keys.channel, ENDS)))
        self._is_subscribed = False
        self._reread_at = 0.0
        self._found: deque[End] = deque()

    def next(self) -> Operation[End]:
        while True:
            try:
                yield from self._look()
            except ERRORS as error:
                self._is_subscribed = False
                pause = self._state.disconnected(error)
                yield Pause(max(min(pause.seconds, self._deadline - time.monotonic()), 0.0))
            if self._found:
                end = self._found.popleft()
                self.unended.pop(end.eval_id, None)
                return end
            if time.monotonic() >= self._deadline:
                ids = ", ".join(map(repr, self.unended))
                raise TimeoutError(f"evaluation {ids} is not known to have ended after {self._timeout:g} s")

    def _look(self) -> Operation[None]:
        """Returns when an end is found or the time is up. Raises what redis-py raises."""
        if not self._is_subscribed:
            yield from self._subscription.open()
            self._state.connected()
            self._is_subscribed = True
            yield from self._read_records()
        while not self._found and (now := time.monotonic()) < self._deadline:
            message = yield from self._subscription.receive(min(self._deadline, self._reread_at) - now)
            if message is not None and (eval_id := _eval_id_of(message.data)) in self.unended:
                record = yield from read(self._keys, eval_id or "")
                self._add(_end_of(record) or _end_received(message.data, record))
            if time.monotonic() >= self._reread_at:
                yield from self._read_records()

    def _read_records(self) -> Operation[None]:
        for batch in batches(self.unended):
            for record in (yield from read_many(self._keys, batch)):
                self._add(_end_of(record))
        self._reread_at = time.monotonic() + REREAD_SECONDS

    def _add(self, end: End | None) -> None:
        if end is not None and all(end.eval_id != one.eval_id for one in self._found):
            self._found.append(end)


def _end_of(record: Record | None) -> End | None:
    if record is None or not record.is_ended:
        return None
    if isinstance(record.event, Completed | Failed | Cancelled):
        return record.event
    raise MalformedEvent(
        f"evaluation {record.eval_id!r} has ended ({record.status}), but its last event cannot be read"
    )


def _eval_id_of(message: bytes) -> str | None:
    try:
        return _eval_id.decode(message).eval_id
    except UNREADABLE:
        return None


def _end_received(message: bytes, record: Record | None) -> End | None:
    """The end in the message, unless it is of a former Job while a newer one of the same evaluation is open."""
    try:
        event: Event = decode(message)
    except MalformedEvent:
        return None
    if not isinstance(event, Completed | Failed | Cancelled) or (record and record.uid != event.job.uid):
        return None
    return event
