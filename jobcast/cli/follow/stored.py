"""The rest of a log that was followed: from what Jobcast has stored of it."""

import asyncio

from jobcast.cli.follow.instances import Continued, Differs, Key
from jobcast.client import AsyncClient, ClientError, Record
from jobcast.client.log import MEANINGS
from jobcast.event import Log

AGAIN_SECONDS = 0.3
"""Between looks at a record that does not have the log yet."""


async def logs_of(jobcast: AsyncClient, eval_id: str, uid: str) -> dict[Key, Log]:
    """What is known of the logs of the Job, if the record is of that one. Raises ClientError."""
    record = await jobcast.get(eval_id)
    return _logs_in(record) if record is not None and record.uid == uid else {}


async def rest(jobcast: AsyncClient, eval_id: str, uid: str, key: Key, log: Continued, patience: float) -> str | None:
    """Writes what follows on what was written. Returns why that is not all; None when it is. Raises ClientError.

    `patience`: seconds in which the log may still come to be known.
    """
    late = asyncio.get_running_loop().time() + patience
    while True:
        record = await jobcast.get(eval_id)
        known = _logs_in(record).get(key) if record is not None and record.uid == uid else None
        if record is not None and known is not None:
            break
        if asyncio.get_running_loop().time() > late:
            return "nothing of it is stored"
        await asyncio.sleep(AGAIN_SECONDS)
    if known.bytes > log.size:
        why = await _write(jobcast, record, uid, key, log)
        if why is not None:
            return why
    if known.state == "complete" and known.bytes == log.size:
        return None
    why = MEANINGS.get(known.reason or "", known.reason or "nobody knows why")
    return f"{why}; {log.size} bytes of it are above" if log.size <= known.bytes else None


async def _write(jobcast: AsyncClient, record: Record, uid: str, key: Key, log: Continued) -> str | None:
    pod, container, number = key
    attempt = next((n for n, one in enumerate(record.attempts, 1) if one.pod == pod), None)
    log.begin()
    try:
        async with jobcast.log(record.eval_id, attempt=attempt, container=container, instance=number, job=uid) as feed:
            async for chunk in feed:
                log.feed(chunk)
    except Differs:
        return "what is stored begins otherwise"
    except ClientError as error:
        return str(error)
    return None


def _logs_in(record: Record) -> dict[Key, Log]:
    told: list[Log] = [log for attempt in record.attempts for log in attempt.logs]
    return {_key(log): log for log in (*told, *record.logs) if log.source}


def _key(log: Log) -> Key:
    pod, _, container = (log.source or "").partition("/")
    return pod, container, log.instance
