"""`jobcast watch`: a live table at a terminal; elsewhere one line per event and progress."""

import asyncio
import contextlib
import time
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.live import Live

from jobcast.cli.options import (
    EvalIds,
    Labels,
    Namespaces,
    Statuses,
    Timeout,
    labels_of,
    seconds_of,
    statuses_of,
    when_of,
)
from jobcast.cli.redis import Redis
from jobcast.cli.render.event import line, progress_line
from jobcast.cli.render.output import complain, console, print_line, while_read, write_json
from jobcast.cli.render.table import WatchTable
from jobcast.cli.render.times import rfc3339
from jobcast.cli.run import carry_out
from jobcast.cli.selection import check_namespaces
from jobcast.client import AsyncFeed
from jobcast.client.group import END_OF_STREAM
from jobcast.client.operator import Operator
from jobcast.client.position import When
from jobcast.event import Event, Progress, Status
from jobcast.filters import Filter, filter_of

Feed = AsyncFeed[Event | Progress] | AsyncFeed[Event]
FRAME_SECONDS = 0.1
"""The shortest time between two pictures."""
AGE_SECONDS = 1.0
"""The longest time between two pictures: durations of running Jobs go on."""


Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="Read from the stream: since then (2h, 90s, 2026-11-20T10:00:00Z) or after this entry id. 0: all that is"
        " kept; $: new events",
    ),
]


def watch(
    evaluations: EvalIds = None,
    status: Statuses = None,
    namespace: Namespaces = None,
    label: Labels = None,
    since: Since = None,
    timeout: Timeout = None,
    *,
    as_json: bool,
    redis: Redis,
) -> None:
    """Show events when they are published, until Ctrl-C.

    At a terminal it is a table with one row per evaluation, the latest change
    first; elsewhere one line per event.

    Lines without --since come from the live channels: events that are
    published while the connection is down are not shown. With --since, and in
    the table, events come from the stream, and none is missed. The progress of
    open Jobs is live only, and not shown with --status. Fails if Redis is
    unreachable at the start; later it reconnects.
    """
    statuses, labels = statuses_of(status), labels_of(label)
    check_namespaces(namespace or ())
    chosen = filter_of(statuses, labels, namespace or None)
    begin = when_of("--since", since) if since != END_OF_STREAM else since
    seconds = seconds_of(timeout)
    wanted = Wanted(chosen, frozenset(evaluations or ()), begin, progress=not status)
    # Ctrl-C is how it ends.
    carry_out(_watch(redis, wanted, as_json), redis, interrupted=0, timeout=seconds)


class Wanted(NamedTuple):
    filter: Filter
    eval_ids: frozenset[str]
    """Empty: any."""
    since: When | str | None
    """None: from now on, live."""
    progress: bool

    def has(self, published: Event | Progress) -> bool:
        if self.eval_ids and published.eval_id not in self.eval_ids:
            return False
        if isinstance(published, Progress):
            return self.filter.is_about(published)
        return self.filter.wants(published)


async def _watch(redis: Redis, wanted: Wanted, json: bool) -> int:
    """Raises ClientError, BrokenPipeError."""
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
            complain(f"skipped {feed.malformed} messages that were not events")


async def _show_lines(feed: Feed, wanted: Wanted, out: Console, json: bool) -> None:
    async with feed:
        async for published in feed:
            if not wanted.has(published):
                continue
            if json:
                write_json(feed.raw)
            else:
                print_line(
                    out, progress_line(published) if isinstance(published, Progress) else line(published, rfc3339)
                )


async def _begin(jobcast: Operator, since: When | str) -> str:
    return await jobcast.before(since) if isinstance(since, When) else since


class Picture:
    """The table, drawn again when it changes. Its events come from the stream: none is missed while Redis is unreachable."""

    def __init__(self, out: Console, where: str) -> None:
        self._out = out
        self._where = where
        self._table = WatchTable()
        self._error: str | None = None
        self._has_changed = asyncio.Event()
        self._starting = 0
        """Feeds that have not started: events may be missed until then."""

    def report_connection(self, error: str | None) -> None:
        self._error = f"{self._where}: {error}" if error else None
        self._has_changed.set()

    async def show(self, jobcast: Operator, wanted: Wanted) -> None:
        """Until it is interrupted. Raises ClientError."""
        begin = END_OF_STREAM if wanted.since is None else await _begin(jobcast, wanted.since)
        tasks = [asyncio.create_task(self._take(jobcast.follow(begin), wanted), name="events")]
        if wanted.progress:
            tasks.append(asyncio.create_task(self._take_progress(jobcast, wanted), name="progress"))
        self._starting = len(tasks)
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
            self._started()
            async for published in feed:
                self._add(published, wanted)

    async def _take_progress(self, jobcast: Operator, wanted: Wanted) -> None:
        async with jobcast.events(Status.SUSPENDED, progress=True) as feed:  # a status has to be named
            self._started()
            async for published in feed:
                if isinstance(published, Progress):
                    self._add(published, wanted)

    def _started(self) -> None:
        self._starting -= 1
        self._table.is_listening = not self._starting
        self._has_changed.set()

    def _add(self, published: Event | Progress, wanted: Wanted) -> None:
        if wanted.has(published):
            self._table.add(published)
            self._has_changed.set()

    async def _draw(self) -> None:
        with Live(console=self._out, auto_refresh=False) as live:
            while True:
                live.update(self._table.render(time.time(), self._out.height, self._error), refresh=True)
                # Not wait_for: on Python 3.11 it may swallow a cancellation, and so Ctrl-C.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGE_SECONDS):
                        await self._has_changed.wait()
                self._has_changed.clear()
                await asyncio.sleep(FRAME_SECONDS)
