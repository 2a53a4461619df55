"""`jobcast dead`: lists, shows, replays and drops dead letters."""

import re
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, NamedTuple

import typer

from jobcast.cli.options import (
    DryRun,
    Handler,
    Rate,
    Since,
    check_rate,
    when_of,
)
from jobcast.cli.redis import Redis
from jobcast.cli.render.dead_letter import NO_EVENT, dead_letter_json, dead_letter_line, print_dead_letter
from jobcast.cli.render.event import count_of
from jobcast.cli.render.output import complain, console, print_line, write_json
from jobcast.cli.render.progress import Task
from jobcast.cli.render.times import time_format
from jobcast.cli.run import EXIT_FAILED, EXIT_INTERRUPTED, carry_out, has_agreed, wrong
from jobcast.client import ClientError
from jobcast.client.announced import named
from jobcast.client.dead_letter import DeadLetter, dead_letter_of
from jobcast.client.operator import FIRST, Operator
from jobcast.client.position import When
from jobcast.client.scan import Span, progress

SHOWN = 5
"""Dead letters that a dry run shows."""
NAMED = 10
"""Failures that are printed; the others are counted."""
_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `jobcast dead list` shows them")]
Id = Annotated[str, typer.Argument(metavar="ID", help="As `jobcast dead list` shows it")]
All = Annotated[bool, typer.Option("--all", help="All, or all that match --handler and --since")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]


class Filter(NamedTuple):
    handler: str | None
    since: When | None


def list_(
    handler: Handler = None,
    since: Since = None,
    *,
    as_json: bool,
    redis: Redis,
) -> None:
    """List the dead letters, oldest first: id, time, handler, event, tries, error."""
    which = Filter(handler, when_of("--since", since))
    carry_out(_list(redis, which, as_json), redis)


def show(
    entry_id: Id,
    *,
    as_json: bool,
    redis: Redis,
) -> None:
    """Show a dead letter with its traceback. Exit code 1 if it does not exist."""
    _check_ids([entry_id])
    carry_out(_show(redis, entry_id, as_json), redis)


def replay(
    ids: Ids = None,
    everything: All = False,
    handler: Handler = None,
    since: Since = None,
    dry_run: DryRun = False,
    rate: Rate = 100.0,
    *,
    redis: Redis,
) -> None:
    """Send events to their handlers again, and delete the dead letters.

    Only the handler that the dead letter names gets the event. A dead letter
    stays if it is not an event or no worker has its handler now; then the exit
    code is 1. It is safe to run this twice: the dead letter is gone then.
    """
    which = _filter(ids, everything, handler, since)
    check_rate(rate)
    carry_out(_replay(redis, ids or [], which, rate, dry_run), redis)


def drop(
    ids: Ids = None,
    everything: All = False,
    handler: Handler = None,
    since: Since = None,
    yes: Yes = False,
    *,
    redis: Redis,
) -> None:
    """Delete dead letters for good.

    Asks first; without a terminal to ask at, --yes is needed.
    """
    which = _filter(ids, everything, handler, since)
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise wrong("--yes", "it is needed where there is no terminal to ask at")
    carry_out(_drop(redis, ids or [], which, yes), redis)


def _filter(ids: list[str] | None, everything: bool, handler: str | None, since: str | None) -> Filter:
    """Ends the command with code 2 if it is not either ids or all."""
    if bool(ids) == everything:
        raise wrong("--all", "give it, or ids of dead letters; one of the two")
    if ids and (handler is not None or since is not None):
        raise wrong("--handler" if handler is not None else "--since", "it needs --all")
    _check_ids(ids or [])
    return Filter(handler, when_of("--since", since))


def _check_ids(ids: Sequence[str]) -> None:
    for one in ids:
        if not _ID.fullmatch(one):
            raise wrong("ID", f"{one!r} is not the id of a dead letter, which looks like 1795168800000-0")


async def _list(redis: Redis, which: Filter, json: bool) -> int:
    """Raises ClientError, BrokenPipeError."""
    out, count = console(), 0
    async with redis.operator() as operator:
        span = await _span(operator, which)
        async with Task("reading", is_writing=True) as task:
            async for letter in _dead_letters(operator, span, task):
                count += 1
                if json:
                    write_json(dead_letter_json(letter))
                else:
                    print_line(out, dead_letter_line(letter, time_format(out)))
            is_done = task.go_on
    complain(count_of(count, "dead letter") + ("" if is_done else "; interrupted"))
    return 0 if is_done else EXIT_INTERRUPTED


async def _show(redis: Redis, entry_id: str, json: bool) -> int:
    async with redis.operator() as operator:
        letter = await operator.dead_letter(entry_id)
    if letter is None:
        complain(f"dead letter {entry_id} not found")
        return EXIT_FAILED
    if json:
        write_json(dead_letter_json(letter))
    else:
        print_dead_letter(console(), letter)
    return 0


async def _replay(redis: Redis, ids: Sequence[str], which: Filter, rate: float, is_dry: bool) -> int:
    """Those of the ids; without ids all that match. Raises ClientError, BrokenPipeError."""
    async with redis.operator() as operator:
        span = await _span(operator, which) if not ids else None
        live_handlers = {one.name for one in await operator.announced() if one.is_there}
        replaying = _Replaying(operator, live_handlers, is_dry)
        async with Task("replaying", rate, is_writing=is_dry) as task:
            try:
                await (replaying.these(ids, task) if ids else replaying.all_of(span, task))
            except ClientError:
                complain(f"{replaying.result}, perhaps one more; the others are kept")
                raise
            is_done = task.go_on
    complain(replaying.result + ("" if is_done else "; interrupted, the others are kept"))
    return EXIT_INTERRUPTED if not is_done else EXIT_FAILED if replaying.failed else 0


async def _drop(redis: Redis, ids: Sequence[str], which: Filter, is_agreed: bool) -> int:
    """Those of the ids; without ids all that match. Raises ClientError."""
    async with redis.operator() as operator:
        span = await _span(operator, which) if not ids else None
        matching = len(ids) if ids else (await _counted(operator, span)).total()
        if not is_agreed and matching and not has_agreed(f"drop {count_of(matching, 'dead letter')} for good?"):
            complain("nothing was dropped")
            return EXIT_FAILED
        async with Task("dropping") as task:
            dropped = await operator.drop_dead_letters(ids) if ids else await _drop_all(operator, span, task)
            is_done = task.go_on
    missing = len(set(ids)) - dropped if ids else 0
    complain(
        f"dropped {count_of(dropped, 'dead letter')}"
        + (f"; {missing} not found" if missing else "")
        + ("" if is_done else "; interrupted")
    )
    return EXIT_INTERRUPTED if not is_done else EXIT_FAILED if missing else 0


class _Replaying:
    """Replays dead letters, and counts the results."""

    def __init__(self, operator: Operator, live_handlers: set[str], is_dry: bool) -> None:
        self._operator = operator
        self._live_handlers = live_handlers
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

    async def these(self, ids: Sequence[str], task: Task) -> None:
        for number, entry_id in enumerate(dict.fromkeys(ids), 1):
            letter = await self._operator.dead_letter(entry_id)
            if letter is None:
                self._fail(entry_id, "not found")
            elif not await self._replay(letter, task, is_expected=True):
                return
            task.show_progress(number / len(ids))

    async def all_of(self, span: Span | None, task: Task) -> None:
        async with aclosing(_dead_letters(self._operator, span, task)) as letters:
            async for letter in letters:
                if not await self._replay(letter, task, is_expected=False):
                    return

    async def _replay(self, letter: DeadLetter, task: Task, *, is_expected: bool) -> bool:
        """False after Ctrl-C."""
        if letter.event is None:
            self._fail(letter.entry_id, f"{NO_EVENT}; it cannot be replayed")
        elif letter.handler and letter.handler not in self._live_handlers:
            # It would be a dead letter again at once, or be lost if the handler was a route to another broker.
            self._fail(letter.entry_id, f"no worker has the handler {letter.handler} now")
        elif self._is_dry:
            if self._done < SHOWN:
                print_line(self._out, dead_letter_line(letter, time_format(self._out)))
            self._done += 1
        elif not await task.next_step():
            return False
        elif await self._operator.replay_dead_letter(letter):
            self._done += 1
        elif is_expected:
            self._fail(letter.entry_id, "it was replayed or dropped by another command")
        return True

    def _fail(self, entry_id: str, why: str) -> None:
        self.failed += 1
        if self.failed <= NAMED:
            complain(f"dead letter {entry_id}: {why}")


async def _span(operator: Operator, which: Filter) -> Span | None:
    """The range of the dead letters that match; None if there are none. Ends the command with code 2 for an unknown handler."""
    span = await operator.span(operator.keys.dead, which.since or FIRST)
    if which.handler is None:
        return span
    names = {one.name for one in await operator.announced()}
    names |= (await operator.dead_letters_by_handler(span)).keys()
    try:
        name = named(which.handler, names - {""})
    except ValueError as error:
        raise wrong("--handler", error) from None
    return span._replace(field="handler", values=(name,)) if span is not None else None


async def _dead_letters(operator: Operator, span: Span | None, task: Task) -> AsyncGenerator[DeadLetter, None]:
    """Those of the span, until Ctrl-C."""
    if span is None:
        return
    async with operator.scan(span) as pages:
        async for page in pages:
            for found in page.entries:
                letter = dead_letter_of(found)
                if not span.values or letter.handler in span.values:
                    yield letter
                if not task.go_on:
                    return
            task.show_progress(progress(span, page.last))


async def _counted(operator: Operator, span: Span | None) -> Counter[str]:
    count = await operator.dead_letters_by_handler(span)
    matching = span.values if span is not None else ()
    return Counter({name: count[name] for name in matching}) if matching else count


async def _drop_all(operator: Operator, span: Span | None, task: Task) -> int:
    dropped = 0
    if span is not None:
        async with operator.scan(span._replace(field="handler", is_bare=True)) as pages:
            async for page in pages:
                letters = map(dead_letter_of, page.entries)
                ids = [one.entry_id for one in letters if not span.values or one.handler in span.values]
                dropped += await operator.drop_dead_letters(ids) if ids else 0
                task.show_progress(progress(span, page.last))
                if not task.go_on:
                    break
    return dropped
