"""`jobcast lag`: the lag of the consumer groups, and the dead letters of the handlers."""

import asyncio
from collections import Counter
from contextlib import nullcontext
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from jobcast.cli.redis import Redis
from jobcast.cli.render.columns import columns
from jobcast.cli.render.event import duration
from jobcast.cli.render.output import complain, console, print_line, while_read, write_json
from jobcast.cli.run import EXIT_FAILED, carry_out, wrong
from jobcast.client import Unavailable
from jobcast.client.announced import Announced
from jobcast.client.operator import Operator
from jobcast.ledger.groups import GroupState

EVERY_SECONDS = 2.0
"""The interval of --watch."""
SILENT_SECONDS = 300.0
"""A consumer that does not read for so long is shown as silent: the default time that the client gives for one entry."""


class Lag(NamedTuple):
    """The state at one moment."""

    groups: list[GroupState]
    handlers: list[Announced]
    dead_letters: Counter[str]
    """By handler; the empty name stands for whole entries."""


class _Reader:
    """Reads the state repeatedly; counts the dead letters only if their stream has changed."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._counted: tuple[Any, Counter[str]] = (None, Counter())

    async def read(self) -> Lag:
        """Raises ClientError."""
        operator = self._operator
        return Lag(await operator.groups(), await operator.announced(), await self._dead_letters())

    async def _dead_letters(self) -> Counter[str]:
        mark = await self._operator.mark(self._operator.keys.dead)
        if self._counted[0] != mark:
            span = await self._operator.span(self._operator.keys.dead)
            self._counted = mark, await self._operator.dead_letters_by_handler(span)
        return self._counted[1]


Watch = Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C")]
Most = Annotated[int | None, typer.Option("--max", metavar="N", min=0, help="Exit code 1 if a group is further behind")]


def lag(
    watch: Watch = False,
    most: Most = None,
    *,
    as_json: bool,
    redis: Redis,
) -> None:
    """Show the lag of the consumer groups, and the handlers' dead letters.

    The lag of a group is the number of entries that it has not read (unread)
    or not acknowledged (pending). A group that has not read for a day is dead:
    the stream's trimming does not wait for it.
    """
    if watch and most is not None:
        raise wrong("--max", "it excludes --watch")
    if watch:
        carry_out(_watch(redis, as_json), redis, interrupted=0)  # Ctrl-C is how it ends
    else:
        carry_out(_lag(redis, as_json, most), redis)


async def _lag(redis: Redis, json: bool, most: int | None) -> int:
    """Raises ClientError, BrokenPipeError."""
    async with redis.operator() as operator:
        now = await _Reader(operator).read()
    if json:
        write_json(_json(now))
    else:
        _print(console(), now)
    behind = [group for group in now.groups if most is not None and group.lag > most]
    for group in behind:
        complain(f"group {group.name} of {group.stream} is {group.lag} entries behind, more than {most}")
    return EXIT_FAILED if behind else 0


async def _watch(redis: Redis, json: bool) -> int:
    """Raises ClientError, BrokenPipeError."""
    async with redis.operator() as operator:
        await while_read(_show(_Reader(operator), redis, json))
    return 0


async def _show(reader: _Reader, redis: Redis, json: bool) -> None:
    out = console()
    with Live(console=out, auto_refresh=False) if out.is_terminal and not json else nullcontext() as live:
        now = await reader.read()
        while True:
            if json:
                write_json(_json(now))
            elif live is not None:
                live.update(Group(*_lines(now)), refresh=True)
            else:
                _print(out, now)
                out.print()
            now = await _next(reader, redis)


async def _next(reader: _Reader, redis: Redis) -> Lag:
    """Retries while Redis is unreachable. Raises Refused."""
    was_unavailable = False
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            now = await reader.read()
        except Unavailable as error:
            if not was_unavailable:
                redis.report_connection(str(error))
            was_unavailable = True
        else:
            if was_unavailable:
                redis.report_connection(None)
            return now


def _print(out: Console, now: Lag) -> None:
    for line in _lines(now):
        print_line(out, line)


def _lines(now: Lag) -> list[Text]:
    """Two tables: groups and handlers."""
    lines = [Text(line, _style(group)) for line, group in zip(columns(_groups(now)), [None, *now.groups], strict=True)]
    return lines + [Text("")] + [Text(line) for line in columns(_handlers(now))]


def _groups(now: Lag) -> list[list[str]]:
    rows = [["group", "stream", "unread", "pending", "oldest pending", "last read", "consumers", "note"]]
    for group in now.groups:
        alive = sum(one.silent < SILENT_SECONDS for one in group.consumers)
        silent = len(group.consumers) - alive
        rows.append(
            [
                group.name,
                group.stream,
                str(group.unread),
                str(group.pending),
                duration(group.waiting) if group.oldest_pending else "",
                f"{duration(group.silent)} ago" if group.silent is not None else "never",
                f"{alive} alive" + (f", {silent} silent" if silent else ""),
                "dead: the stream's trimming does not wait for it" if group.is_dead else "",
            ]
        )
    return rows


def _style(group: GroupState | None) -> str:
    return "dim" if group is None else "bold red" if group.is_dead else ""


def _handlers(now: Lag) -> list[list[str]]:
    rows = [["handler", "group", "dead letters", "last seen", "wants"]]
    known = {one.name: one for one in now.handlers}
    for name in sorted(known.keys() | now.dead_letters.keys()):
        one = known.get(name)
        seen = "" if one is None else "now" if one.is_there else f"{duration(one.age)} ago"
        wants = " ".join(one.statuses) if one is not None else ""
        group = one.group if one is not None else ""
        rows.append([name or "(whole entries)", group, str(now.dead_letters[name]), seen, wants])
    return rows


def _json(now: Lag) -> bytes:
    known = {one.name: one for one in now.handlers}
    groups = [
        {
            "group": group.name,
            "stream": group.stream,
            "unread": group.unread,
            "pending": group.pending,
            "lag": group.lag,
            "oldest_pending_seconds": group.waiting if group.oldest_pending else None,
            "last_read_seconds": group.silent,
            "consumers": [
                {"name": one.name, "pending": one.pending, "silent_seconds": one.silent} for one in group.consumers
            ],
            "is_dead": group.is_dead,
        }
        for group in now.groups
    ]
    handlers = [
        {
            "handler": name,
            "group": known[name].group if name in known else None,
            "statuses": known[name].statuses if name in known else None,
            "last_seen_seconds": known[name].age if name in known else None,
            "dead_letters": now.dead_letters[name],
        }
        for name in sorted(known.keys() | now.dead_letters.keys())
    ]
    return msgspec.json.encode({"groups": groups, "handlers": handlers})
