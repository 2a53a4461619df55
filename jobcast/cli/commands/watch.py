"""`jobcast watch`: a live table at a terminal; elsewhere a line for each event, and for the progress between them."""

import asyncio
import contextlib
import time
from typing import NamedTuple

from rich.console import Console
from rich.live import Live

from jobcast.cli.redis import Redis
from jobcast.cli.render.event import line, progress_line
from jobcast.cli.render.output import complain, console, print_line, while_read, write_json
from jobcast.cli.render.table import Board
from jobcast.client import AsyncFeed
from jobcast.client.group import END_OF_STREAM
from jobcast.client.operator import Operator
from jobcast.client.position import When
from jobcast.event import Event, Progress, Status
from jobcast.filters import Filter

Feed = AsyncFeed[Event | Progress] | AsyncFeed[Event]
FRAME_SECONDS = 0.1
"""Between two pictures, however much is told."""
AGE_SECONDS = 1.0
"""Between two pictures when nothing is told: ages go on."""


class Wanted(NamedTuple):
    filter: Filter
    since: When | str | None
    """None is what is told from now on, as it is told."""
    progress: bool

    def has(self, told: Event | Progress) -> bool:
        return self.filter.is_about(told) if isinstance(told, Progress) else self.filter.wants(told)


async def watch(redis: Redis, wanted: Wanted, json: bool) -> int:
    """Shows them until it is interrupted, or nobody reads them any more. Raises ClientError, BrokenPipeError."""
    out = console()
    picture = Picture(out, redis.where) if out.is_terminal and not out.is_dumb_terminal and not json else None
    async with redis.operator(redis.report_connection if picture is None else picture.report_connection) as jobcast:
        await jobcast.ping()
        if picture is None:
            await _watch_lines(jobcast, wanted, out, json)
        else:
            await picture.show(jobcast, wanted)
    return 0


async def _watch_lines(jobcast: Operator, wanted: Wanted, out: Console, json: bool) -> None:
    feed: Feed
    if wanted.since is not None:
        feed = jobcast.follow(await _begin(jobcast, wanted.since))
    else:
        statuses = wanted.filter.statuses
        feed = jobcast.events(*statuses, progress=True) if wanted.progress else jobcast.events(*statuses)
    try:
        await while_read(_show_lines(feed, wanted, out, json))
    finally:
        if feed.malformed:
            complain(f"skipped what was not an event: {feed.malformed}")


async def _show_lines(feed: Feed, wanted: Wanted, out: Console, json: bool) -> None:
    async with feed:
        async for told in feed:
            if not wanted.has(told):
                continue
            if json:
                write_json(feed.raw)
            else:
                print_line(out, progress_line(told) if isinstance(told, Progress) else line(told))


async def _begin(jobcast: Operator, since: When | str) -> str:
    return await jobcast.before(since) if isinstance(since, When) else since


class Picture:
    """The table, drawn again as it changes. Its events come from the stream: none is missed while Redis is away."""

    def __init__(self, out: Console, where: str) -> None:
        self._out = out
        self._where = where
        self._board = Board()
        self._trouble: str | None = None
        self._has_changed = asyncio.Event()
        self._beginning = 0
        """Feeds that have not begun: what is told now may be missed."""

    def report_connection(self, trouble: str | None) -> None:
        self._trouble = f"{self._where}: {trouble}" if trouble else None
        self._has_changed.set()

    async def show(self, jobcast: Operator, wanted: Wanted) -> None:
        """Until it is interrupted. Raises ClientError."""
        begin = END_OF_STREAM if wanted.since is None else await _begin(jobcast, wanted.since)
        tasks = [asyncio.create_task(self._take(jobcast.follow(begin), wanted), name="events")]
        if wanted.progress:
            tasks.append(asyncio.create_task(self._take_progress(jobcast, wanted), name="progress"))
        self._beginning = len(tasks)
        tasks.append(asyncio.create_task(self._draw(), name="draw"))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _take(self, feed: AsyncFeed[Event], wanted: Wanted) -> None:
        async with feed:
            self._has_begun()
            async for told in feed:
                self._add(told, wanted)

    async def _take_progress(self, jobcast: Operator, wanted: Wanted) -> None:
        async with jobcast.events(Status.SUSPENDED, progress=True) as feed:  # a status has to be named
            self._has_begun()
            async for told in feed:
                if isinstance(told, Progress):
                    self._add(told, wanted)

    def _has_begun(self) -> None:
        self._beginning -= 1
        self._board.is_listening = not self._beginning
        self._has_changed.set()

    def _add(self, told: Event | Progress, wanted: Wanted) -> None:
        if wanted.has(told):
            self._board.feed(told)
            self._has_changed.set()

    async def _draw(self) -> None:
        with Live(console=self._out, auto_refresh=False) as live:
            while True:
                live.update(self._board.table(time.time(), self._out.height, self._trouble), refresh=True)
                # Not wait_for: on Python 3.11 it may swallow a cancellation, and so Ctrl-C.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGE_SECONDS):
                        await self._has_changed.wait()
                self._has_changed.clear()
                await asyncio.sleep(FRAME_SECONDS)
