"""Waiting for an end that may be told before, while or after it is asked for.

Subscribe first, then read the record, then listen: an end told before the subscription is in the record, one told after
it comes as a message. Reading again after every loss, and now and then, covers what neither of them would.
"""

import time
from typing import TypeAlias

import msgspec

from jobcast.client.effects import Health, Pause, Program
from jobcast.client.record import Record, read
from jobcast.client.subscription import Subscription
from jobcast.event import TERMINAL, Cancelled, Completed, Event, Failed, Status
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.wire import UNREADABLE, MalformedEvent, decode

REREAD_SECONDS = 10.0
"""The record is read again so often. Nothing we know of needs it; it bounds what an unknown flaw would cost."""
ENDS = tuple(status for status in Status if status in TERMINAL)

End: TypeAlias = Completed | Failed | Cancelled


class _Told(msgspec.Struct):
    """Just enough of an event to know whether it is ours: other evaluations' outputs are not decoded."""

    eval_id: str


_told = msgspec.json.Decoder(_Told)


def wait(keys: Keys, eval_id: str, timeout: float | None, health: Health) -> Program[End]:
    """The end of the evaluation's newest Job. Raises TimeoutError, Refused, or MalformedEvent for an unreadable end."""
    deadline = time.monotonic() + (float("inf") if timeout is None else max(timeout, 0.0))
    subscription = Subscription(tuple(map(keys.channel, ENDS)))
    while True:
        try:
            yield from subscription.open()
            health.found()
            end = yield from _hear_end(keys, eval_id, deadline, subscription)
        except ERRORS as error:
            pause = health.lost(error)
            yield Pause(max(min(pause.seconds, deadline - time.monotonic()), 0.0))
            end = None
        if end is not None:
            return end
        if time.monotonic() >= deadline:
            raise TimeoutError(f"evaluation {eval_id!r} is not known to have ended after {timeout:g} s")


def _hear_end(keys: Keys, eval_id: str, deadline: float, subscription: Subscription) -> Program[End | None]:
    """The end; None when the time is up. Raises what redis-py raises."""
    end = _end_of((yield from read(keys, eval_id)))
    reread = time.monotonic() + REREAD_SECONDS
    while end is None:
        now = time.monotonic()
        if now >= deadline:
            return None
        heard = yield from subscription.hear(min(deadline, reread) - now)
        is_ours = heard is not None and _is_about(heard.data, eval_id)
        if is_ours or time.monotonic() >= reread:
            record = yield from read(keys, eval_id)
            reread = time.monotonic() + REREAD_SECONDS
            end = _end_of(record)
            if end is None and is_ours and heard is not None:
                end = _end_heard(heard.data, record)
    return end


def _end_of(record: Record | None) -> End | None:
    if record is None or not record.is_ended:
        return None
    if isinstance(record.event, Completed | Failed | Cancelled):
        return record.event
    raise MalformedEvent(f"evaluation {record.eval_id!r} has ended ({record.status}), but how cannot be read")


def _is_about(heard: bytes, eval_id: str) -> bool:
    try:
        return _told.decode(heard).eval_id == eval_id
    except UNREADABLE:
        return False


def _end_heard(heard: bytes, record: Record | None) -> End | None:
    """What was heard, unless it is of a former Job while a newer one of the same evaluation is under way."""
    try:
        event: Event = decode(heard)
    except MalformedEvent:
        return None
    if not isinstance(event, Completed | Failed | Cancelled) or (record and record.uid != event.job.uid):
        return None
    return event
