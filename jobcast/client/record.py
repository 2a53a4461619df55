"""The record of an evaluation: how its newest Job stands, what was told of it last, and its logs and other Jobs."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from jobcast.client.effects import Call, Program
from jobcast.client.entry import data, text
from jobcast.client.errors import told
from jobcast.event import TERMINAL, Attempt, Cancelled, Ended, Event, Log
from jobcast.jobs.progress import Indexes, Waiting
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.wire import UNREADABLE, MalformedEvent, decode

T = TypeVar("T")
_waiting = msgspec.json.Decoder(Waiting)
_indexes = msgspec.json.Decoder(Indexes)
_attempts = msgspec.json.Decoder(list[Attempt])
_log = msgspec.json.Decoder(Log)


class RecordedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One of an evaluation's Jobs: a platform that tries again makes another."""

    uid: str
    namespace: str
    name: str
    created: float
    """Unix seconds."""
    status: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Kept while the Job is open, and for the retention after its end (a setting of the service, 7 days).

    What cannot be read is left out, as if it were not there: strangers may write to Redis.
    """

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
    waiting: Waiting | None = None
    """Why a Pod cannot start; None when none is kept from it."""
    started_at: str | None = None
    """RFC 3339: when a main container first ran."""
    attempts: list[Attempt] = []
    """Its Pods in the order in which they started: as they are while the Job is open, as they were told after its end."""
    indexes: Indexes | None = None
    """Of Indexed Jobs only."""
    logs: list[Log] = []
    """Of every log that is kept, by attempt, the container that decided it first, its latest instance first. They may be
    more than those of the event: a store that was away gets them later."""
    jobs: list[RecordedJob] = []
    """All of the evaluation's, the newest 100, the oldest first; the last one is the one that the record is of."""

    @property
    def is_ended(self) -> bool:
        return self.status in TERMINAL


def read(keys: Keys, eval_id: str) -> Program[Record | None]:
    """Ask once. Raises what redis-py raises."""
    fields = yield from fields_of(keys.evaluation(eval_id))
    status, uid = text(fields.get("status")), text(fields.get("uid"))
    namespace, name = text(fields.get("namespace")), text(fields.get("name"))
    if not status:
        return None
    raw = data(fields.get("event"))
    try:
        event = decode(raw) if raw else None
    except MalformedEvent:
        event = None
    attempts = event.attempts if isinstance(event, Ended | Cancelled) else _decoded(_attempts, fields.get("attempts"))
    return Record(
        eval_id=eval_id,
        status=status,
        namespace=namespace,
        name=name,
        uid=uid,
        event=event,
        raw=raw,
        waiting=_decoded(_waiting, fields.get("waiting")),
        started_at=_time(text(fields.get("started_at"))),
        attempts=attempts or [],
        indexes=_decoded(_indexes, fields.get("indexes")),
        logs=logs_of(fields, attempts or []),
        jobs=_jobs(fields, RecordedJob(uid=uid, namespace=namespace, name=name, created=0.0, status=status)),
    )


def fields_of(key: str) -> Program[dict[str, Any]]:
    """The fields of a hash, values as they are. Raises what redis-py raises."""
    reply = yield Call(("HGETALL", key))
    return {text(name): value for name, value in (reply or {}).items()}


def logs_of(fields: Mapping[str, Any], attempts: list[Attempt]) -> list[Log]:
    """The logs in the fields `log:<pod>/<container>/<instance>`, in the attempts' order."""
    order = {attempt.pod: number for number, attempt in enumerate(attempts)}
    deciding = {(attempt.pod, attempt.container) for attempt in attempts}
    found = []
    for name, value in fields.items():
        kind, _, where = name.partition(":")
        source, _, instance = where.rpartition("/")
        pod, _, container = source.partition("/")
        if kind != "log" or not pod or not container or not _is_number(instance):
            continue
        log = _decoded(_log, value)
        if log is not None:
            place = (order.get(pod, len(order)), pod, (pod, container) not in deciding, container, -int(instance))
            found.append((place, replace(log, source=source, instance=int(instance))))
    return [log for _, log in sorted(found, key=lambda pair: pair[0])]


def get(keys: Keys, eval_id: str) -> Program[Record | None]:
    """Ask, and once more if the connection had been cut while it lay idle. Raises Unavailable or Refused."""
    return asked(lambda: read(keys, eval_id))


def asked(question: Callable[[], Program[T]]) -> Program[T]:
    """The answer to what is asked, if need be twice. Raises Unavailable or Refused."""
    try:
        return (yield from question())
    except ERRORS:
        pass
    try:
        return (yield from question())
    except ERRORS as error:
        raise told(error) from error


def ping() -> Program[None]:
    """Whether Redis answers this account at all. Raises Unavailable or Refused."""
    try:
        yield Call(("PING",))
    except ERRORS as error:
        raise told(error) from error


def _decoded(decoder: "msgspec.json.Decoder[T]", value: Any) -> T | None:
    try:
        return decoder.decode(value) if value else None
    except UNREADABLE:
        return None


def _jobs(fields: Mapping[str, Any], current: RecordedJob) -> list[RecordedJob]:
    found = {}
    for field, value in fields.items():
        kind, _, uid = field.partition(":")
        job = _job(uid, text(value)) if kind == "job" and uid else None
        if job is not None:
            found[uid] = job
    if current.uid and current.uid not in found:  # told by a version that kept no list
        created = _number(text(fields.get("created")))
        if created is not None:
            found[current.uid] = replace(current, created=created)
    return sorted(found.values(), key=lambda job: (job.uid == current.uid, job.created, job.uid))


def _job(uid: str, value: str) -> RecordedJob | None:
    created, _, rest = value.partition(" ")
    status, _, where = rest.partition(" ")
    namespace, _, name = where.partition("/")
    seconds = _number(created)
    if seconds is None or not status or not namespace or not name:
        return None
    return RecordedJob(uid=uid, namespace=namespace, name=name, created=seconds, status=status)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _time(value: str) -> str | None:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return value


def _is_number(value: str) -> bool:
    # A restart count is an int32; what is longer is somebody's joke, and too much of it is more than int() takes.
    return value.isascii() and value.isdecimal() and len(value) <= 10
