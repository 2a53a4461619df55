"""The record of an evaluation: the state of its newest Job, the last event, and its logs and other Jobs."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import msgspec
import redis
from msgspec.structs import replace

from jobcast.client.effects import Call, Operation, Pipeline
from jobcast.client.entry import data, text
from jobcast.client.errors import to_client_error
from jobcast.event import TERMINAL, Attempt, Cancelled, Ended, Event, Log
from jobcast.jobs.progress import Indexes, Waiting
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.wire import UNREADABLE, MalformedEvent, decode

BATCH = 20
"""Records in one reply: each may have an event with its excerpt, 65 KB by default."""

T = TypeVar("T")
_waiting = msgspec.json.Decoder(Waiting)
_indexes = msgspec.json.Decoder(Indexes)
_attempts = msgspec.json.Decoder(list[Attempt])
_log = msgspec.json.Decoder(Log)


class RecordedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One of an evaluation's Jobs: a platform that retries an evaluation creates another Job."""

    uid: str
    namespace: str
    name: str
    created: float
    """Unix seconds."""
    status: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Kept while the Job is open and for RETENTION_SECONDS after its end, 7 days by default.

    Fields that cannot be read are left out: other programs may write to Redis.
    """

    eval_id: str
    status: str
    """`pending` until the first event; then the status of the latest event."""
    namespace: str
    name: str
    uid: str
    """Of the newest Job of the evaluation."""
    event: Event | None
    """The latest; None while pending, and for one that this version cannot read."""
    raw: bytes | None
    """The latest event exactly as published."""
    waiting: Waiting | None = None
    """Why a Pod cannot start, or None."""
    started_at: str | None = None
    """When a main container first ran, RFC 3339."""
    attempts: list[Attempt] = []
    """The Job's Pods in the order in which they started; after its end those of the event."""
    indexes: Indexes | None = None
    """Only for Indexed Jobs."""
    logs: list[Log] = []
    """Every log that is kept: by attempt, the deciding container first, its latest instance first. May be more than in the
    event: logs are uploaded later if the log store was unreachable."""
    jobs: list[RecordedJob] = []
    """The newest 100 Jobs of the evaluation, oldest first; the record describes the last one."""

    @property
    def is_ended(self) -> bool:
        return self.status in TERMINAL


def read(keys: Keys, eval_id: str) -> Operation[Record | None]:
    """The record, read once. Raises what redis-py raises."""
    return _record(eval_id, (yield from fields_of(keys.evaluation(eval_id))))


def read_many(keys: Keys, eval_ids: Iterable[str], *, skip_other_types: bool = False) -> Operation[list[Record]]:
    """The records that exist, in the order of the ids. Raises what redis-py raises, also for a key of another type."""
    ids = list(eval_ids)
    replies = yield Pipeline(tuple(Call(("HGETALL", keys.evaluation(one))) for one in ids))
    records = [
        _record(one, _texts(reply)) for one, reply in zip(ids, checked_replies(replies, skip_other_types), strict=True)
    ]
    return [record for record in records if record is not None]


def checked_replies(replies: Sequence[Any], skip_other_types: bool) -> list[Any]:
    """The replies of a pipeline. Raises an error among them; with `skip_other_types`, a key of another type is None instead."""
    for reply in replies:
        if isinstance(reply, Exception) and not (skip_other_types and _is_wrong_type(reply)):
            raise reply
    return [None if isinstance(reply, Exception) else reply for reply in replies]


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error)


def batches(eval_ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids, so many at a time that their records fit into one reply."""
    rest = iter(list(eval_ids))
    while batch := list(islice(rest, BATCH)):
        yield batch


def _record(eval_id: str, fields: Mapping[str, Any]) -> Record | None:
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


def fields_of(key: str) -> Operation[dict[str, Any]]:
    """The fields of a hash, with raw values. Raises what redis-py raises."""
    return _texts((yield Call(("HGETALL", key))))


def _texts(reply: Any) -> dict[str, Any]:
    return {text(name): value for name, value in (reply or {}).items()}


def logs_of(fields: Mapping[str, Any], attempts: list[Attempt]) -> list[Log]:
    """The logs in the fields `log:<pod>/<container>/<instance>`, in the order of the attempts."""
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


def get(keys: Keys, eval_id: str) -> Operation[Record | None]:
    """The record. Raises Unavailable or Refused."""
    return retry_once(lambda: read(keys, eval_id))


def retry_once(read: Callable[[], Operation[T]]) -> Operation[T]:
    """The result; reads again if the connection was cut while idle. Raises Unavailable or Refused."""
    try:
        return (yield from read())
    except ERRORS:
        pass
    try:
        return (yield from read())
    except ERRORS as error:
        raise to_client_error(error) from error


def ping() -> Operation[None]:
    """Check that Redis answers this account. Raises Unavailable or Refused."""
    try:
        yield Call(("PING",))
    except ERRORS as error:
        raise to_client_error(error) from error


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
    if current.uid and current.uid not in found:  # written by a version that kept no list
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
    # A restart count is an int32; int() rejects very long numbers.
    return value.isascii() and value.isdecimal() and len(value) <= 10
