"""`jobcast logs`: the exact bytes of a log, or as much of it as there is."""

from jobcast.cli.output import complain
from jobcast.cli.redis import Redis
from jobcast.cli.screen import Exact, output
from jobcast.client import AsyncClient, ClientError, NotKept
from jobcast.client.choice import Which
from jobcast.client.log import MEANINGS
from jobcast.event import Ended, Log
from jobcast.telling import TERMINATION_MESSAGE

EXIT_INCOMPLETE = 1
"""Not every byte of the log was written."""


async def logs(redis: Redis, eval_id: str, which: Which, raw: bool) -> int:
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
