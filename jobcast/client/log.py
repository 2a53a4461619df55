"""The exact bytes of a log: where they are kept, and that they are the ones that were read.

record ─▶ choice ─▶ what is known of the log ─▶ redis:<key>            GET, zstd
                                            └─▶ s3://…, file:///…, …   jobcast.logstore
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from jobcast.client.effects import Call, Chunk, Give, Health, Open, Program, Ready
from jobcast.client.entry import text
from jobcast.client.errors import ClientError, Damaged, NotKept, Refused, Unavailable
from jobcast.client.log_selector import KnownLogs, LogSelector, chosen, known_of_record, known_of_row, place_of, some
from jobcast.client.record import asked, fields_of, get
from jobcast.event import Log
from jobcast.keys import Keys
from jobcast.logstore.base import UNAVAILABLE, LogPlace, LogStoreError
from jobcast.logstore.fetch import PIECE_BYTES, LogNotFound, decompress

MEANINGS = {
    "pod-gone": "the Pod was deleted or evicted, or went with its node",
    "container-gone": "it was no longer on the container's node",
    "never-started": "the container never ran",
    "timeout": "it could not be read in time",
    "refused": "the API server did not let it be read",
    "no-pod": "the Job had no Pod",
    "error": "reading it failed",
    "store-limit": "it is longer than the log store takes",
    "store-unavailable": "the log store could not be reached, and gets it when it can be",
    "store-refused": "the log store refused it",
    "rotated": "the kubelet had rotated it before it was read",
}
"""Of `log.reason`, for people; docs/events.md has the list."""


class LogHealth(Health):
    """How the reading of a log fares, and which one it is."""

    log: Log | None = None
    """KnownLogs once it has begun."""


def read_log(keys: Keys, eval_id: str, which: LogSelector, about: LogHealth) -> Program[None]:
    """Gives the log in chunks. Raises NotKept, Damaged, Unavailable or Refused."""
    known = yield from _known(keys, eval_id, which.job)
    log = about.log = chosen(known, which)
    if log.state == "complete" and not log.bytes:
        yield Ready()
        return  # no store is troubled with an empty one
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
        raise _told(error, log) from error
    _check(log, size, sha256.hexdigest())


def _known(keys: Keys, eval_id: str, job: str | None) -> Program[KnownLogs]:
    record = yield from get(keys, eval_id)
    if record is None:
        raise NotKept(f"nothing is known of evaluation {eval_id!r}")
    if job is None:
        return known_of_record(record)
    alike = [one for one in record.jobs if job in (one.uid, one.name, f"{one.namespace}/{one.name}")]
    uid = alike[-1].uid if alike else job  # the list has the newest 100; those before are found by their uid
    if uid == record.uid:
        return known_of_record(record)
    fields = yield from asked(lambda: fields_of(keys.job(uid)))
    if text(fields.get("eval_id")) == eval_id:
        return known_of_row(uid, fields)
    if alike:
        raise NotKept(f"nothing is kept any more of Job {job!r} of evaluation {eval_id!r}")
    names = some(one.name for one in record.jobs)
    raise NotKept(f"evaluation {eval_id!r} has no Job {job!r}; there is {names}")


def _open(keys: Keys, known: KnownLogs, log: Log) -> Program[Iterator[bytes] | None]:
    """The chunks of a log in Redis; None for one in an object store, which is open then."""
    pod, container = place_of(log)
    key = keys.log(known.uid, pod, container, log.instance)
    place = LogPlace(known.namespace, known.name, known.uid, pod, container, log.instance)
    ref = log.ref or ""
    if ref == f"redis:{key}":
        blob = yield from asked(lambda: _asked(Call(("GET", key), is_binary=True)))
        if blob is None:
            raise NotKept(f"the log of {log.source} was kept in Redis, and is not there any more", log)
        try:
            return _pieces(decompress(blob))
        except ValueError as error:
            raise Damaged(f"the log of {log.source}: {error}") from error
    if not ref.endswith(f"/{place.path}"):
        # Strangers may write to Redis: no other key and no other file is read because they say so.
        raise NotKept(f"the log of {log.source} is said to be at {ref!r}, where no log of its Job can be", log)
    yield Open(ref)
    return None


def _pieces(whole: bytes) -> Iterator[bytes]:
    return (whole[start : start + PIECE_BYTES] for start in range(0, len(whole), PIECE_BYTES))


def _asked(call: Call) -> Program[Any]:
    return (yield call)


def _check(log: Log, size: int, sha256: str) -> None:
    """Raises Damaged. Of what was cut as it was stored nobody knows the hash."""
    if size != log.bytes:
        if log.state == "complete":
            raise Damaged(f"the log of {log.source} is damaged: {size} bytes are kept, and {log.bytes} were read")
    elif log.sha256 not in (None, sha256):
        raise Damaged(f"the log of {log.source} is damaged: its sha256 is {sha256}, and {log.sha256} was read")


def _told(error: Exception, log: Log) -> ClientError:
    line = f"the log of {log.source}: {error}"
    if isinstance(error, LogNotFound | ImportError):
        return NotKept(line, log)
    # ValueError: what the environment says of the store makes no sense.
    is_away = isinstance(error, LogStoreError) and error.reason == UNAVAILABLE
    return Unavailable(line) if is_away else Refused(line)
