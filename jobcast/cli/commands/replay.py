"""`jobcast replay`: sends events to the worker's handlers again."""

import shlex
from collections import Counter
from typing import Annotated, NamedTuple

import typer

from jobcast.cli.completion import evaluations as completed
from jobcast.cli.options import (
    DryRun,
    Handler,
    Rate,
    Since,
    Statuses,
    check_rate,
    split,
    statuses_of,
    when_of,
)
from jobcast.cli.redis import Redis
from jobcast.cli.render.event import count_of, line
from jobcast.cli.render.output import complain, console, print_line
from jobcast.cli.render.progress import Task
from jobcast.cli.render.times import age, time_format
from jobcast.cli.run import EXIT_FAILED, EXIT_INTERRUPTED, carry_out, wrong
from jobcast.client import ClientError
from jobcast.client.announced import named
from jobcast.client.operator import FIRST, Operator
from jobcast.client.position import When, after, is_backwards
from jobcast.client.replays import Replay, replay_of
from jobcast.client.scan import Span, progress
from jobcast.event import Event, Status

SHOWN = 5
"""Events that a dry run shows."""


Evaluations = Annotated[
    list[str] | None,
    typer.Argument(metavar="EVAL", help="All kept events of these evaluations", autocompletion=completed),
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="As --since. Default: now")]
OfEvaluation = Annotated[
    list[str] | None,
    typer.Option("--eval", metavar="EVAL", help="Only of this evaluation; may be repeated", autocompletion=completed),
]


def replay(
    evaluations: Evaluations = None,
    since: Since = None,
    until: Until = None,
    status: Statuses = None,
    handler: Handler = None,
    evaluation: OfEvaluation = None,
    dry_run: DryRun = False,
    rate: Rate = 100.0,
    *,
    redis: Redis,
) -> None:
    """Send events to the worker's handlers again, with their ids.

    Either the events since a time, with --since, or those of the given
    evaluations. If the stream has no event of an evaluation any more, its
    latest event is sent. Subscribers do not receive them. --handler must be a
    handler that a worker has now (`jobcast lag` lists them). After Ctrl-C it
    prints how to continue.
    """
    if (since is None) == (not evaluations):
        raise wrong("--since", "give it, or evaluation ids; one of the two")
    if evaluations and (until is not None or evaluation):
        raise wrong("--until" if until is not None else "--eval", "it needs --since")
    first, last = when_of("--since", since), when_of("--until", until)
    statuses = frozenset(statuses_of(status))
    check_rate(rate)
    selector = Selector(first, last, statuses, tuple(evaluations or split(evaluation)), handler, dry_run, rate)
    carry_out(_replay(redis, selector), redis)


class Selector(NamedTuple):
    """Which events to replay, and to which handler."""

    since: When | None
    """None: all kept events of the evaluations."""
    until: When | None
    """None: until now."""
    statuses: frozenset[Status]
    evaluations: tuple[str, ...]
    """Empty: all."""
    handler: str | None
    """None: all that want the event."""
    is_dry: bool
    rate: float
    """At most so many events per second."""


async def _replay(redis: Redis, selector: Selector) -> int:
    """Raises ClientError, BrokenPipeError."""
    async with redis.operator() as operator:
        try:
            selector = await _with_handler(operator, selector)
        except ValueError as error:
            raise wrong("--handler", error) from None
        span = await operator.span(operator.keys.events, selector.since or FIRST, selector.until)
        if span is not None and selector.until is not None and is_backwards(span.first, span.last):
            raise wrong("--until", "it is before --since")
        return await _Replaying(operator, selector, span).run()


async def _with_handler(operator: Operator, selector: Selector) -> Selector:
    """With the full name of the handler, and only the statuses that it wants. Raises ValueError if no worker has it.

    Without a worker that has the handler, the events would become dead letters, or be lost if the handler was a route to
    another broker.
    """
    if selector.handler is None:
        return selector
    known = {one.name: one for one in await operator.announced()}
    handler = known[named(selector.handler, known)]
    if not handler.is_there:
        raise ValueError(f"no worker has {handler.name} now; it was last seen {age(handler.age)} ago")
    statuses = selector.statuses & set(handler.statuses)
    if not statuses:
        raise ValueError(f"{handler.name} wants only {', '.join(handler.statuses)}")
    return selector._replace(handler=handler.name, statuses=statuses)


class _Tally:
    """Counts what was replayed, or would be."""

    def __init__(self) -> None:
        self._statuses: Counter[Status] = Counter()
        self._evaluations: set[str] = set()
        self.skipped = 0
        """Entries that were not events."""

    @property
    def count(self) -> int:
        return self._statuses.total()

    def add(self, event: Event) -> None:
        self._statuses[event.status] += 1
        self._evaluations.add(event.eval_id)

    def __str__(self) -> str:
        what = f"{count_of(self.count, 'event')} of {count_of(len(self._evaluations), 'evaluation')}"
        each = ", ".join(f"{count} {status}" for status, count in self._statuses.most_common())
        skipped = (
            f"; {count_of(self.skipped, 'entry').replace('entrys', 'entries')} skipped, not an event"
            if self.skipped
            else ""
        )
        return what + (f" ({each})" if each else "") + skipped


class _Replaying:
    """One run of the command."""

    def __init__(self, operator: Operator, selector: Selector, span: Span | None) -> None:
        self._operator = operator
        self._selector = selector
        self._span = span._replace(field="eval_id", values=selector.evaluations) if span is not None else None
        self._out = console()
        self._tally = _Tally()
        self._place = span.first if span is not None else FIRST.entry
        """Where to continue."""
        self._left = list(selector.evaluations) if selector.since is None else []
        """Evaluations that were not found in the stream yet."""
        self._is_streamed = False
        self._has_failed = False

    async def run(self) -> int:
        async with Task("replaying", self._selector.rate, is_writing=self._selector.is_dry) as task:
            try:
                is_done = await self._replay_stream(task) and await self._replay_records(task)
            except ClientError:
                self._print_result(f"perhaps one more; continue with {self._rest()}")
                raise
        self._print_result("" if is_done else f"interrupted; continue with {self._rest()}")
        return EXIT_INTERRUPTED if not is_done else EXIT_FAILED if self._has_failed else 0

    async def _replay_stream(self, task: Task) -> bool:
        """False after Ctrl-C."""
        if self._span is not None:
            async with self._operator.scan(self._span) as pages:
                async for page in pages:
                    for found in page.entries:
                        self._place = found.entry_id
                        of = replay_of(found, self._selector.handler or "")
                        if of is None:
                            self._tally.skipped += 1
                        elif self._is_wanted(of.event) and not await self._replay(of, task):
                            return False
                    self._place = after(page.last)
                    task.show_progress(progress(self._span, page.last))
                    if not task.go_on:
                        return False
        self._is_streamed = True
        return True

    async def _replay_records(self, task: Task) -> bool:
        """The latest events of evaluations that the stream has no more. False after Ctrl-C."""
        while self._left:
            eval_id = self._left[0]
            record = await self._operator.get(eval_id)
            if record is None or record.event is None or record.raw is None:
                self._has_failed = True
                known = "not found" if record is None else "it has no event that this version can read"
                complain(f"evaluation {eval_id!r}: {known}")
            elif record.event.status in self._selector.statuses:
                of = Replay(record.event, record.raw, self._selector.handler or "", "")
                if not await self._replay(of, task):
                    return False
            del self._left[0]
        return True

    def _is_wanted(self, event: Event) -> bool:
        selector = self._selector
        if selector.evaluations and event.eval_id not in selector.evaluations:
            return False
        if event.eval_id in self._left:
            self._left.remove(event.eval_id)
        return event.status in selector.statuses

    async def _replay(self, of: Replay, task: Task) -> bool:
        """False after Ctrl-C. Raises ClientError."""
        if self._selector.is_dry:
            if self._tally.count < SHOWN:
                print_line(self._out, line(of.event, time_format(self._out)))
        elif not await task.next_step():
            return False
        else:
            await self._operator.replay(of)
        self._tally.add(of.event)
        return True

    def _rest(self) -> str:
        if self._is_streamed or self._span is None:
            return shlex.join(self._left)
        chosen = (
            "" if self._selector.since else "".join(f" --eval {shlex.quote(one)}" for one in self._selector.evaluations)
        )
        return f"--since {self._place} --until {self._span.last}{chosen}"

    def _print_result(self, more: str) -> None:
        did = "would replay" if self._selector.is_dry else "replayed"
        to = f" to {self._selector.handler}" if self._selector.handler else ""
        complain(f"{did}{to} {self._tally}" + (f"; {more}" if more else ""))
