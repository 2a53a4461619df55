"""The record of an evaluation: what was told of its newest Job last."""

import msgspec

from jobcast.client.entry import data, text
from jobcast.client.errors import told
from jobcast.client.program import Call, Program
from jobcast.connection import ERRORS
from jobcast.event import TERMINAL, Event
from jobcast.keys import Keys
from jobcast.wire import MalformedEvent, decode

_FIELDS = ("status", "namespace", "name", "uid", "event")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Kept while the Job is open, and for the retention after its end (a setting of the service, 7 days)."""

    eval_id: str
    status: str
    """`pending` while nothing is told of it; else the status of the latest event."""
    namespace: str
    name: str
    uid: str
    """The Job's. An evaluation that was tried again with another Job has the newest Job's record."""
    event: Event | None
    """The latest told; None while pending, and for one that this version cannot read."""
    raw: bytes | None
    """The latest event as it was on the wire."""

    @property
    def is_ended(self) -> bool:
        return self.status in TERMINAL


def read(keys: Keys, eval_id: str) -> Program[Record | None]:
    """Ask once. Raises what redis-py raises."""
    reply = yield Call(("HMGET", keys.evaluation(eval_id), *_FIELDS))
    status, namespace, name, uid = map(text, reply[:4])
    if not status:
        return None
    raw = data(reply[4])
    try:
        event = decode(raw) if raw else None
    except MalformedEvent:
        event = None
    return Record(eval_id=eval_id, status=status, namespace=namespace, name=name, uid=uid, event=event, raw=raw)


def get(keys: Keys, eval_id: str) -> Program[Record | None]:
    """Ask, and once more if the connection had been cut while it lay idle. Raises Unavailable or Refused."""
    try:
        return (yield from read(keys, eval_id))
    except ERRORS:
        pass
    try:
        return (yield from read(keys, eval_id))
    except ERRORS as error:
        raise told(error) from error


def ping() -> Program[None]:
    """Whether Redis answers this account at all. Raises Unavailable or Refused."""
    try:
        yield Call(("PING",))
    except ERRORS as error:
        raise told(error) from error
