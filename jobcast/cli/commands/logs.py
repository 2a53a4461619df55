"""`jobcast logs`: the exact bytes of a log, or as much of it as there is; also while it is printed."""

import asyncio
from typing import TYPE_CHECKING

import typer

from jobcast.cli.cluster import in_cluster
from jobcast.cli.redis import Redis
from jobcast.cli.render.log_screen import Exact, LiveScreen, output
from jobcast.cli.render.output import complain
from jobcast.cli.usage import EXIT_FAILED
from jobcast.client import AsyncClient, AsyncFeed, ClientError, NotKept, Record
from jobcast.client.log import MEANINGS
from jobcast.client.log_selector import LogSelector
from jobcast.event import Ended, Event, Log
from jobcast.jobs.facts import TERMINATION_MESSAGE

if TYPE_CHECKING:
    from jobcast.kube import Api

EXIT_INCOMPLETE = 1
"""Not every byte of the log was written."""
KNOWN_SECONDS = 0.5
"""Between looks for an evaluation that nobody knows yet."""


async def logs(redis: Redis, eval_id: str, which: LogSelector, raw: bool) -> int:
    """Writes it. Raises ClientError when Redis does not answer, BrokenPipeError."""
    out = output(raw)
    async with redis.client() as jobcast:
        feed = jobcast.log(eval_id, **which._asdict())
        try:
            async with feed:
                async for chunk in feed:
                    out.write(chunk)
        except NotKept as error:
            await _write_excerpt(jobcast, eval_id, error, out)
            return EXIT_INCOMPLETE
        except ClientError as error:
            if feed.log is None:
                raise
            out.close()
            complain(str(error))  # it is not Redis that failed, or not before we knew where the log is
            return EXIT_INCOMPLETE
        finally:
            out.close()
    if feed.log is not None and feed.log.state != "complete":
        complain(_how_cut(feed.log, out.size))
        return EXIT_INCOMPLETE
    return 0


async def follow(redis: Redis, eval_id: str, raw: bool) -> int:
    """Writes it to the end of the evaluation, attempt after attempt from the latest on. Raises as `logs` does."""
    async with redis.client(redis.report_connection) as jobcast:
        await jobcast.ping()
        async with jobcast.follow() as told:  # before the record is read: an end is in the one, or comes by the other
            record = await _known(jobcast, eval_id)
            code = None if record.is_ended else await _follow(jobcast, record, told, raw)
    return await logs(redis, eval_id, LogSelector(job=record.uid), raw) if code is None else code


async def _known(jobcast: AsyncClient, eval_id: str) -> Record:
    """Once somebody knows of it. Raises ClientError."""
    is_said = False
    while (record := await jobcast.get(eval_id)) is None:
        if not is_said:
            complain(f"nothing is known of evaluation {eval_id!r} yet; waiting for it")
            is_said = True
        await asyncio.sleep(KNOWN_SECONDS)
    return record


async def _follow(jobcast: AsyncClient, record: Record, told: AsyncFeed[Event], raw: bool) -> int | None:
    """The exit code; None where nothing was written until the end, and the log that is stored is all there is."""
    has_ended = has_written = False

    async def followed(api: "Api") -> int:
        nonlocal has_ended, has_written
        from jobcast.cli.follow.following import Following, to_the_end

        job = await api.job(record.namespace, record.name)
        if job is None or job.uid != record.uid:
            return 0
        screen = LiveScreen(output(raw))
        following = Following(api, jobcast, job, screen, from_now=True)
        try:
            await to_the_end(following, told)
        finally:
            screen.close()
        has_ended, has_written = True, following.has_written
        return 0 if following.is_whole else EXIT_INCOMPLETE

    try:
        code = await in_cluster(followed)
    except typer.Exit:
        code = 0
    if code == EXIT_FAILED or has_written:
        return code
    if not has_ended:
        complain("it cannot be followed; what is stored of it is shown when it has ended")
        await jobcast.wait(record.eval_id)
    return None


async def _write_excerpt(jobcast: AsyncClient, eval_id: str, error: NotKept, out: Exact) -> None:
    """What the event has of the log instead, where it is this log's."""
    record = await jobcast.get(eval_id) if error.log is not None else None
    event = record.event if record is not None else None
    if not isinstance(event, Ended) or not event.output or _place(event.log) != _place(error.log):
        complain(str(error))
        return
    out.write(event.output.encode())
    out.close()
    if event.metadata.get("log_source") == TERMINATION_MESSAGE:
        complain(f"{error}; this is the container's termination message")
    else:
        complain(f"{error}; this is an excerpt of it" if event.output_truncated else f"{error}; this is what was read")


def _place(log: Log | None) -> tuple[str | None, int] | None:
    return (log.source, log.instance) if log is not None else None


def _how_cut(log: Log, size: int) -> str:
    why = MEANINGS.get(log.reason or "", log.reason or "nobody knows why")
    kept = f"{size} of {log.bytes} bytes are kept" if size < log.bytes else f"{size} bytes are kept"
    return f"the log of {log.source} is not whole: {why}; {kept}"
