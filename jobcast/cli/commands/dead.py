"""`jobcast dead`: the letters of events that were given up on; shown, replayed, dropped."""

import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from jobcast.cli.redis import Redis
from jobcast.cli.render.dead_letter import NO_EVENT, letter_json, letter_line, print_letter
from jobcast.cli.render.event import count_of
from jobcast.cli.render.output import complain, console, print_line, write_json
from jobcast.cli.render.progress import Work
from jobcast.cli.usage import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_WRONG_USAGE, has_agreed
from jobcast.client import ClientError
from jobcast.client.announced import named
from jobcast.client.dead_letter import DeadLetter, dead_letter_of
from jobcast.client.operator import FIRST, Operator
from jobcast.client.position import When
from jobcast.client.scan import Span, progress

SHOWN = 5
"""Letters that a dry run shows."""
NAMED = 10
"""Letters that could not be replayed and are named; of the others there is a count."""


class Filter(NamedTuple):
    """Which letters are meant."""

    handler: str | None
    since: When | None


async def list_(redis: Redis, which: Filter, json: bool) -> int:
    """Shows them. Raises ClientError, BrokenPipeError."""
    out, count = console(), 0
    async with redis.operator() as operator:
        try:
            span = await _span(operator, which)
        except ValueError as error:
            return _unknown(error)
        async with Work("reading", is_writing=True) as work:
            async for letter in _letters(operator, span, work):
                count += 1
                if json:
                    write_json(letter_json(letter))
                else:
                    print_line(out, letter_line(letter))
            is_done = work.go_on
    complain(count_of(count, "dead letter") + ("" if is_done else "; interrupted"))
    return 0 if is_done else EXIT_INTERRUPTED


async def show(redis: Redis, entry_id: str, json: bool) -> int:
    async with redis.operator() as operator:
        letter = await operator.dead_letter(entry_id)
    if letter is None:
        complain(f"there is no dead letter {entry_id}")
        return EXIT_FAILED
    if json:
        write_json(letter_json(letter))
    else:
        print_letter(console(), letter)
    return 0


async def replay(redis: Redis, ids: Sequence[str], which: Filter, rate: float, is_dry: bool) -> int:
    """Those of the ids, without any all that are meant. Raises ClientError, BrokenPipeError."""
    async with redis.operator() as operator:
        try:
            span = await _span(operator, which) if not ids else None
        except ValueError as error:
            return _unknown(error)
        there = {one.name for one in await operator.announced() if one.is_there}
        replaying = _Replaying(operator, there, is_dry)
        async with Work("replaying", rate, is_writing=is_dry) as work:
            try:
                await (replaying.these(ids, work) if ids else replaying.all_of(span, work))
            except ClientError:
                complain(f"{replaying.result}, perhaps one more; the others are still there")
                raise
            is_done = work.go_on
    complain(replaying.result + ("" if is_done else "; interrupted, the others are still there"))
    return EXIT_INTERRUPTED if not is_done else EXIT_FAILED if replaying.failed else 0


async def drop(redis: Redis, ids: Sequence[str], which: Filter, is_agreed: bool) -> int:
    """Those of the ids, without any all that are meant. Raises ClientError."""
    async with redis.operator() as operator:
        try:
            span = await _span(operator, which) if not ids else None
        except ValueError as error:
            return _unknown(error)
        meant = len(ids) if ids else (await _counted(operator, span)).total()
        if not is_agreed and meant and not has_agreed(f"drop {count_of(meant, 'dead letter')} for good?"):
            complain("nothing was dropped")
            return EXIT_FAILED
        async with Work("dropping") as work:
            dropped = await operator.drop_dead_letters(ids) if ids else await _drop_all(operator, span, work)
            is_done = work.go_on
    missing = len(set(ids)) - dropped if ids else 0
    complain(
        f"dropped {count_of(dropped, 'dead letter')}"
        + (f"; {missing} were not there" if missing else "")
        + ("" if is_done else "; interrupted")
    )
    return EXIT_INTERRUPTED if not is_done else EXIT_FAILED if missing else 0


def can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


class _Replaying:
    """Letters handed to their handlers again, and what became of each."""

    def __init__(self, operator: Operator, there: set[str], is_dry: bool) -> None:
        self._operator = operator
        self._there = there
        """Handlers that a worker has now."""
        self._is_dry = is_dry
        self._out = console()
        self._done = 0
        self.failed = 0

    @property
    def result(self) -> str:
        did = "would replay" if self._is_dry else "replayed"
        left = f"; {self.failed} cannot be replayed" if self.failed else ""
        return f"{did} {count_of(self._done, 'dead letter')}{left}"

    async def these(self, ids: Sequence[str], work: Work) -> None:
        for number, entry_id in enumerate(dict.fromkeys(ids), 1):
            letter = await self._operator.dead_letter(entry_id)
            if letter is None:
                self._fail(entry_id, "there is no such dead letter")
            elif not await self._replay(letter, work, is_expected=True):
                return
            work.is_at(number / len(ids))

    async def all_of(self, span: Span | None, work: Work) -> None:
        async with aclosing(_letters(self._operator, span, work)) as letters:
            async for letter in letters:
                if not await self._replay(letter, work, is_expected=False):
                    return

    async def _replay(self, letter: DeadLetter, work: Work, *, is_expected: bool) -> bool:
        """False when it was interrupted before."""
        if letter.event is None:
            self._fail(letter.entry_id, f"{NO_EVENT}, it cannot be replayed")
        elif letter.handler and letter.handler not in self._there:
            # It would be a dead letter again at once; and lost, if that was a route to another broker until today.
            self._fail(letter.entry_id, f"no worker has its handler {letter.handler} now")
        elif self._is_dry:
            if self._done < SHOWN:
                print_line(self._out, letter_line(letter))
            self._done += 1
        elif not await work.turn():
            return False
        elif await self._operator.replay_dead_letter(letter):
            self._done += 1
        elif is_expected:
            self._fail(letter.entry_id, "somebody else replayed or dropped it just now")
        return True

    def _fail(self, entry_id: str, why: str) -> None:
        self.failed += 1
        if self.failed <= NAMED:
            complain(f"letter {entry_id}: {why}")


async def _span(operator: Operator, which: Filter) -> Span | None:
    """Where the letters that are meant are; None where there are none. Raises ValueError for a handler nobody knows."""
    span = await operator.span(operator.keys.dead, which.since or FIRST)
    if which.handler is None:
        return span
    names = {one.name for one in await operator.announced()}
    names |= (await operator.dead_letters_by_handler(span)).keys()
    name = named(which.handler, names - {""})
    return span._replace(field="handler", values=(name,)) if span is not None else None


async def _letters(operator: Operator, span: Span | None, work: Work) -> AsyncGenerator[DeadLetter, None]:
    """Those of the span, until the work is interrupted."""
    if span is None:
        return
    async with operator.scan(span) as pages:
        async for page in pages:
            for found in page.entries:
                letter = dead_letter_of(found)
                if not span.values or letter.handler in span.values:
                    yield letter
                if not work.go_on:
                    return
            work.is_at(progress(span, page.last))


async def _counted(operator: Operator, span: Span | None) -> Counter[str]:
    count = await operator.dead_letters_by_handler(span)
    meant = span.values if span is not None else ()
    return Counter({name: count[name] for name in meant}) if meant else count


async def _drop_all(operator: Operator, span: Span | None, work: Work) -> int:
    dropped = 0
    if span is not None:
        async with operator.scan(span._replace(field="handler", is_bare=True)) as pages:
            async for page in pages:
                letters = map(dead_letter_of, page.entries)
                ids = [one.entry_id for one in letters if not span.values or one.handler in span.values]
                dropped += await operator.drop_dead_letters(ids) if ids else 0
                work.is_at(progress(span, page.last))
                if not work.go_on:
                    break
    return dropped


def _unknown(error: ValueError) -> int:
    complain(f"--handler: {error}")
    return EXIT_WRONG_USAGE
