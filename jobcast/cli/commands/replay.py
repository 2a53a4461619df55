"""`jobcast replay`: events handed to the worker's handlers once more."""

import shlex
from collections import Counter
from typing import NamedTuple

from jobcast.cli.redis import Redis
from jobcast.cli.render.event import count_of, duration, line
from jobcast.cli.render.output import complain, console, print_line
from jobcast.cli.render.progress import Work
from jobcast.cli.usage import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_WRONG_USAGE
from jobcast.client import ClientError
from jobcast.client.announced import named
from jobcast.client.operator import FIRST, Operator
from jobcast.client.position import When, after, is_backwards
from jobcast.client.replays import Replay, replay_of
from jobcast.client.scan import Span, progress
from jobcast.event import Event, Status

SHOWN = 5
"""Events that a dry run shows."""


class Wish(NamedTuple):
    """What is to be replayed to whom."""

    since: When | None
    """None: all that is kept of the evaluations."""
    until: When | None
    """None: what was told before now."""
    statuses: frozenset[Status]
    evaluations: tuple[str, ...]
    """Empty: all."""
    handler: str | None
    """None: all that want it."""
    is_dry: bool
    rate: float
    """Events a second, at most."""


async def replay(redis: Redis, wish: Wish) -> int:
    """Does it, or says what it would do. Raises ClientError, BrokenPipeError."""
    async with redis.operator() as operator:
        try:
            wish = await _aimed(operator, wish)
        except ValueError as error:
            complain(f"--handler: {error}")
            return EXIT_WRONG_USAGE
        span = await operator.span(operator.keys.events, wish.since or FIRST, wish.until)
        if span is not None and wish.until is not None and is_backwards(span.first, span.last):
            complain("--until: it is before --since")
            return EXIT_WRONG_USAGE
        return await _Replaying(operator, wish, span).run()


async def _aimed(operator: Operator, wish: Wish) -> Wish:
    """With the full name of the handler, and only the statuses that it wants. Raises ValueError when that is nobody.

    What is for a handler that no worker has only ends as a dead letter; and as nothing, if it was a route to another
    broker less than a day ago.
    """
    if wish.handler is None:
        return wish
    known = {one.name: one for one in await operator.announced()}
    handler = known[named(wish.handler, known)]
    if not handler.is_there:
        raise ValueError(f"no worker has {handler.name} now; it was last seen {duration(handler.age)} ago")
    statuses = wish.statuses & set(handler.statuses)
    if not statuses:
        raise ValueError(f"{handler.name} wants {', '.join(handler.statuses)} only")
    return wish._replace(handler=handler.name, statuses=statuses)


class _Tally:
    """What was replayed, or would be."""

    def __init__(self) -> None:
        self._statuses: Counter[Status] = Counter()
        self._evaluations: set[str] = set()
        self.skipped = 0
        """Entries that were no events."""

    @property
    def count(self) -> int:
        return self._statuses.total()

    def add(self, event: Event) -> None:
        self._statuses[event.status] += 1
        self._evaluations.add(event.eval_id)

    def __str__(self) -> str:
        what = f"{count_of(self.count, 'event')} of {count_of(len(self._evaluations), 'evaluation')}"
        each = ", ".join(f"{count} {status}" for status, count in self._statuses.most_common())
        skipped = f"; skipped what was not an event: {self.skipped}" if self.skipped else ""
        return what + (f" ({each})" if each else "") + skipped


class _Replaying:
    """One command at work."""

    def __init__(self, operator: Operator, wish: Wish, span: Span | None) -> None:
        self._operator = operator
        self._wish = wish
        self._span = span._replace(field="eval_id", values=wish.evaluations) if span is not None else None
        self._out = console()
        self._tally = _Tally()
        self._place = span.first if span is not None else FIRST.entry
        """From where to go on."""
        self._left = list(wish.evaluations) if wish.since is None else []
        """Evaluations of which nothing was found in the stream yet."""
        self._is_streamed = False
        self._has_failed = False

    async def run(self) -> int:
        async with Work("replaying", self._wish.rate, is_writing=self._wish.is_dry) as work:
            try:
                is_done = await self._replay_stream(work) and await self._replay_records(work)
            except ClientError:
                self._say(f"perhaps one more; go on with {self._rest()}")
                raise
        self._say("" if is_done else f"interrupted; go on with {self._rest()}")
        return EXIT_INTERRUPTED if not is_done else EXIT_FAILED if self._has_failed else 0

    async def _replay_stream(self, work: Work) -> bool:
        """False when it was interrupted."""
        if self._span is not None:
            async with self._operator.scan(self._span) as pages:
                async for page in pages:
                    for found in page.entries:
                        self._place = found.entry_id
                        of = replay_of(found, self._wish.handler or "")
                        if of is None:
                            self._tally.skipped += 1
                        elif self._is_wanted(of.event) and not await self._replay(of, work):
                            return False
                    self._place = after(page.last)
                    work.is_at(progress(self._span, page.last))
                    if not work.go_on:
                        return False
        self._is_streamed = True
        return True

    async def _replay_records(self, work: Work) -> bool:
        """Of evaluations that the stream has no more."""
        while self._left:
            eval_id = self._left[0]
            record = await self._operator.get(eval_id)
            if record is None or record.event is None or record.raw is None:
                self._has_failed = True
                known = "nothing is known of it" if record is None else "no event of it is kept that can be read"
                complain(f"evaluation {eval_id!r}: {known}")
            elif record.event.status in self._wish.statuses:
                of = Replay(record.event, record.raw, self._wish.handler or "", "")
                if not await self._replay(of, work):
                    return False
            del self._left[0]
        return True

    def _is_wanted(self, event: Event) -> bool:
        wish = self._wish
        if wish.evaluations and event.eval_id not in wish.evaluations:
            return False
        if event.eval_id in self._left:
            self._left.remove(event.eval_id)
        return event.status in wish.statuses

    async def _replay(self, of: Replay, work: Work) -> bool:
        """False when it was interrupted before. Raises ClientError."""
        if self._wish.is_dry:
            if self._tally.count < SHOWN:
                print_line(self._out, line(of.event))
        elif not await work.turn():
            return False
        else:
            await self._operator.replay(of)
        self._tally.add(of.event)
        return True

    def _rest(self) -> str:
        if self._is_streamed or self._span is None:
            return shlex.join(self._left)
        chosen = "" if self._wish.since else "".join(f" --eval {shlex.quote(one)}" for one in self._wish.evaluations)
        return f"--since {self._place} --until {self._span.last}{chosen}"

    def _say(self, more: str) -> None:
        did = "would replay" if self._wish.is_dry else "replayed"
        to = f" to {self._wish.handler}" if self._wish.handler else ""
        complain(f"{did}{to} {self._tally}" + (f"; {more}" if more else ""))
