"""`jobcast watch`: events as they are told."""

import asyncio
from collections.abc import Sequence

from jobcast.cli.output import complain, console, nobody_reads, print_line, write_json
from jobcast.cli.redis import Redis
from jobcast.cli.show import line
from jobcast.client import AsyncFeed
from jobcast.event import Event, Status


async def watch(redis: Redis, statuses: Sequence[Status], since: str | None, json: bool) -> int:
    """Shows them until it is interrupted, or nobody reads them any more. Raises ClientError, BrokenPipeError."""
    async with redis.client(redis.tell_trouble) as jobcast:
        await jobcast.ping()
        feed = jobcast.events(*statuses) if since is None else jobcast.follow(since)
        showing = asyncio.create_task(_show(feed, statuses, json), name="show")
        unread = asyncio.create_task(nobody_reads(), name="nobody reads")
        try:
            await asyncio.wait({showing, unread}, return_when=asyncio.FIRST_COMPLETED)
            if unread.done():
                raise BrokenPipeError
            showing.result()
        finally:
            for task in (showing, unread):
                task.cancel()
            await asyncio.wait({showing, unread})
            if feed.malformed:
                complain(f"skipped what was not an event: {feed.malformed}")
    return 0


async def _show(feed: AsyncFeed[Event], statuses: Sequence[Status], json: bool) -> None:
    out = console()
    async with feed:
        async for event in feed:
            if event.status not in statuses:
                continue
            if json:
                write_json(feed.raw)
            else:
                print_line(out, line(event))
