"""The exact bytes of a log, checked against size and hash.

record ─▶ log_selector ─▶ log ─▶ redis:<key>            GET, zstd
                             └─▶ s3://…, file:///…, …   jobcast.logstore
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from jobcast.client.effects import Call, Chunk, FeedState, Give, Open, Operation, Ready
from jobcast.client.entry import text
from jobcast.client.errors import ClientError, Damaged, NotKept, Refused, Unavailable
from jobcast.client.log_selector import (
    KnownLogs,
    LogSelector,
    known_of_record,
    known_of_row,
    place_of,
    select_log,
    some,
)
from jobcast.client.record import fields_of, get, retry_once
from jobcast.event import Log
from jobcast.keys import Keys
from jobcast.logstore.base import UNAVAILABLE, LogPlace, LogStoreError
from jobcast.logstore.fetch import PIECE_BYTES, LogNotFound, decompress

MEANINGS = {
    "pod-gone": "the Pod was deleted or evicted, or went with its node",
    "container-gone": "it was no longer on the container's node",
    "never-started": "the container never ran",
    "timeout": "it could not be read in time",
    "refused": "the API server refused access to it",
    "no-pod": "the Job had no Pod",
    "error": "reading it failed",
    "store-limit": "it is longer than the log store accepts",
    "store-unavailable": "the log store was unreachable; it is uploaded later",
    "store-refused": "the log store refused it",
    "unproved": "nothing shows that it was read to its end; the rest is stored later",
    "rotated": "the kubelet rotated it before it was read",
}
"""What each `log.reason` means; docs/events.md has the list."""


class LogFeedState(FeedState):
    """The state of a log feed."""

    log: Log | None = None
    """The log that is read; None until reading has begun."""


def read_log(keys: Keys, eval_id: str, which: LogSelector, about: LogFeedState) -> Operation[None]:
    """Gives the log in chunks. Raises NotKept, Damaged, Unavailable or Refused."""
    known = yield from _known(keys, eval_id, which.job)
    log = about.log = select_log(known, which)
    if log.state == "complete" and not log.bytes:
        yield Ready()
        return  # an empty log is in no store
    if log.ref is None:
        because = log.reason or "the service keeps excerpts only"
        raise NotKept(f"the log of {log.source} is not kept: {MEANINGS.get(because, because)}", log)
    size, sha256 = 0, hashlib.sha256()
    try:
        chunks = yield from _open(keys, known, log)
        yield Ready()
        while chunk := (next(chunks, b"") if chunks is not None else (yield Chunk())):
            size += len(chunk)
            sha256.update(chunk)
            yield Give(chunk)
    except (LogStoreError, LogNotFound, ImportError, ValueError) as error:
        raise _to_client_error(error, log) from error
    _check(log, size, sha256.hexdigest())


def _known(keys: Keys, eval_id: str, job: str | None) -> Operation[KnownLogs]:
    record = yield from get(keys, eval_id)
    if record is None:
        raise NotKept(f"evaluation {eval_id!r} not found")
    if job is None:
        return known_of_record(record)
    alike = [one for one in record.jobs if job in (one.uid, one.name, f"{one.namespace}/{one.name}")]
    uid = alike[-1].uid if alike else job  # the list has the newest 100; older ones are found by their uid
    if uid == record.uid:
        return known_of_record(record)
    fields = yield from retry_once(lambda: fields_of(keys.job(uid)))
    if text(fields.get("eval_id")) == eval_id:
        return known_of_row(uid, fields)
    if alike:
        raise NotKept(f"Job {job!r} of evaluation {eval_id!r} has expired")
    names = some(one.name for one in record.jobs)
    raise NotKept(f"evaluation {eval_id!r} has no Job {job!r}; known: {names}")


def _open(keys: Keys, known: KnownLogs, log: Log) -> Operation[Iterator[bytes] | None]:
    """The chunks of a log in Redis; None after opening one in an object store."""
    pod, container = place_of(log)
    key = keys.log(known.uid, pod, container, log.instance)
    place = LogPlace(known.namespace, known.name, known.uid, pod, container, log.instance)
    ref = log.ref or ""
    if ref == f"redis:{key}":
        blob = yield from retry_once(lambda: _asked(Call(("GET", key), is_binary=True)))
        if blob is None:
            raise NotKept(f"the log of {log.source} is no longer in Redis", log)
        try:
            return _chunks_of(decompress(blob))
        except ValueError as error:
            raise Damaged(f"the log of {log.source}: {error}") from error
    if not ref.endswith(f"/{place.path}"):
        # Other programs may write to Redis: a forged `ref` must not lead to another key or file.
        raise NotKept(f"the log of {log.source} has the location {ref!r}, which is not a location of its Job", log)
    yield Open(ref)
    return None


def _chunks_of(whole: bytes) -> Iterator[bytes]:
    return (whole[start : start + PIECE_BYTES] for start in range(0, len(whole), PIECE_BYTES))


def _asked(call: Call) -> Operation[Any]:
    return (yield call)


def _check(log: Log, size: int, sha256: str) -> None:
    """Raises Damaged. The hash of a log that was cut before it was stored is not known."""
    if size != log.bytes:
        if log.state == "complete":
            raise Damaged(f"the log of {log.source} is damaged: {size} bytes are kept, and {log.bytes} were read")
    elif log.sha256 not in (None, sha256):
        raise Damaged(f"the log of {log.source} is damaged: its sha256 is {sha256}, and {log.sha256} was read")


def _to_client_error(error: Exception, log: Log) -> ClientError:
    line = f"the log of {log.source}: {error}"
    if isinstance(error, LogNotFound | ImportError):
        return NotKept(line, log)
    # ValueError: the environment has a wrong setting of the store.
    is_unavailable = isinstance(error, LogStoreError) and error.reason == UNAVAILABLE
    return Unavailable(line) if is_unavailable else Refused(line)
