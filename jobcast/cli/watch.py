"""`jobcast watch`: events as they are told, and progress between them."""

from collections.abc import Sequence

from jobcast.cli.output import complain, console, print_line, while_read, write_json
from jobcast.cli.redis import Redis
from jobcast.cli.show import line, progress_line
from jobcast.client import AsyncFeed
from jobcast.client.since import When
from jobcast.event import Event, Progress, Status

Feed = AsyncFeed[Event | Progress] | AsyncFeed[Event]


async def watch(
    redis: Redis, statuses: Sequence[Status], since: When | str | None, json: bool, *, progress: bool
) -> int:
    """Shows them until it is interrupted, or nobody reads them any more. Raises ClientError, BrokenPipeError."""
    async with redis.operator(redis.tell_trouble) as jobcast:
        await jobcast.ping()
        feed: Feed
        if since is not None:
            feed = jobcast.follow(await jobcast.before(since) if isinstance(since, When) else since)
        else:
            feed = jobcast.events(*statuses, progress=True) if progress else jobcast.events(*statuses)
        try:
            await while_read(_show(feed, statuses, json))
        finally:
            if feed.malformed:
                complain(f"skipped what was not an event: {feed.malformed}")
    return 0


async def _show(feed: Feed, statuses: Sequence[Status], json: bool) -> None:
    out = console()
    async with feed:
        async for told in feed:
            if not isinstance(told, Progress) and told.status not in statuses:
                continue
            if json:
                write_json(feed.raw)
            else:
                print_line(out, progress_line(told) if isinstance(told, Progress) else line(told))
