"""Logs from the log store: whole, or the rest of a followed one."""

import asyncio

from jobcast.cli.follow.instances import Continued, Differs, Key
from jobcast.cli.follow.screen import Screen
from jobcast.cli.render.output import complain
from jobcast.cli.run import EXIT_FAILED
from jobcast.client import AsyncClient, ClientError, NotKept, Record
from jobcast.client.log import MEANINGS
from jobcast.client.log_selector import LogSelector
from jobcast.event import Ended, Log
from jobcast.jobs.facts import TERMINATION_MESSAGE

POLL_SECONDS = 0.3
"""Between reads of a record that does not have the log yet."""


async def logs_of(jobcast: AsyncClient, eval_id: str, uid: str) -> dict[Key, Log]:
    """The logs in the record, if it is of this Job. Raises ClientError."""
    record = await jobcast.get(eval_id)
    return _logs_in(record) if record is not None and record.uid == uid else {}


async def rest(jobcast: AsyncClient, eval_id: str, uid: str, key: Key, log: Continued, patience: float) -> str | None:
    """Write what is stored after the written part. Returns what is missing, and why; None if nothing is. Raises ClientError.

    `patience`: seconds to wait for the log to be stored.
    """
    late = asyncio.get_running_loop().time() + patience
    while True:
        record = await jobcast.get(eval_id)
        known = _logs_in(record).get(key) if record is not None and record.uid == uid else None
        if record is not None and known is not None:
            break
        if asyncio.get_running_loop().time() > late:
            return "nothing of it is stored"
        await asyncio.sleep(POLL_SECONDS)
    if known.bytes > log.size:
        why = await _write(jobcast, record, uid, key, log)
        if why is not None:
            return why
    if known.state == "complete" and known.bytes == log.size:
        return None
    why = MEANINGS.get(known.reason or "", known.reason or "the reason is not known")
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
        return "the stored log has another beginning"
    except ClientError as error:
        return str(error)
    return None


def _logs_in(record: Record) -> dict[Key, Log]:
    logs: list[Log] = [log for attempt in record.attempts for log in attempt.logs]
    return {_key(log): log for log in (*logs, *record.logs) if log.source}


def _key(log: Log) -> Key:
    pod, _, container = (log.source or "").partition("/")
    return pod, container, log.instance


async def write_stored(jobcast: AsyncClient, eval_id: str, which: LogSelector, screen: Screen) -> int:
    """Write a stored log; the exit code is 1 if it is not complete. Raises ClientError if Redis fails, BrokenPipeError."""
    feed, size = jobcast.log(eval_id, **which._asdict()), 0
    try:
        async with feed:
            async for chunk in feed:
                screen.write(chunk)
                size += len(chunk)
    except NotKept as error:
        await _write_excerpt(jobcast, eval_id, error, screen)
        return EXIT_FAILED
    except ClientError as error:
        if feed.log is None:
            raise
        screen.flush(is_end=True)
        complain(str(error))  # the log store failed, or Redis after the log was found
        return EXIT_FAILED
    finally:
        screen.flush(is_end=True)
    if feed.log is not None and feed.log.state != "complete":
        complain(_how_cut(feed.log, size))
        return EXIT_FAILED
    return 0


async def _write_excerpt(jobcast: AsyncClient, eval_id: str, error: NotKept, screen: Screen) -> None:
    """Write the event's excerpt instead, if it is of this log."""
    record = await jobcast.get(eval_id) if error.log is not None else None
    event = record.event if record is not None else None
    if not isinstance(event, Ended) or not event.output or _place(event.log) != _place(error.log):
        complain(str(error))
        return
    screen.write(event.output.encode())
    screen.flush(is_end=True)
    if event.metadata.get("log_source") == TERMINATION_MESSAGE:
        complain(f"{error}; this is the container's termination message")
    else:
        complain(f"{error}; this is an excerpt of it" if event.output_truncated else f"{error}; this is what was read")


def _place(log: Log | None) -> tuple[str | None, int] | None:
    return (log.source, log.instance) if log is not None else None


def _how_cut(log: Log, size: int) -> str:
    why = MEANINGS.get(log.reason or "", log.reason or "the reason is not known")
    kept = f"{size} of {log.bytes} bytes are kept" if size < log.bytes else f"{size} bytes are kept"
    return f"the log of {log.source} is not whole: {why}; {kept}"
