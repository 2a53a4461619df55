"""`jobcast lag`: how far behind the consumer groups are, and what the handlers gave up on."""

import asyncio
from collections import Counter
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from jobcast.cli.redis import Redis
from jobcast.cli.render.event import duration
from jobcast.cli.render.output import complain, console, print_line, while_read, write_json
from jobcast.cli.render.record import columns
from jobcast.cli.usage import EXIT_FAILED
from jobcast.client import Unavailable
from jobcast.client.announced import Announced
from jobcast.client.operator import Operator
from jobcast.ledger.groups import GroupState

EVERY_SECONDS = 2.0
"""Of --watch: as fast as a person reads a number and looks away."""
SILENT_SECONDS = 300.0
"""A consumer of which nothing was heard for so long is shown as silent: as long as the client lets one work on an entry."""


class Lag(NamedTuple):
    """How things are at one moment."""

    groups: list[GroupState]
    handlers: list[Announced]
    letters: Counter[str]
    """By handler; under the empty name those of entries that were set aside as a whole."""


class _Look:
    """Looks again and again, and counts the dead letters only where their stream has changed."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._counted: tuple[Any, Counter[str]] = (None, Counter())

    async def once(self) -> Lag:
        """Raises ClientError."""
        operator = self._operator
        return Lag(await operator.groups(), await operator.announced(), await self._letters())

    async def _letters(self) -> Counter[str]:
        mark = await self._operator.mark(self._operator.keys.dead)
        if self._counted[0] != mark:
            span = await self._operator.span(self._operator.keys.dead)
            self._counted = mark, await self._operator.dead_letters_by_handler(span)
        return self._counted[1]


async def lag(redis: Redis, json: bool, most: int | None) -> int:
    """Shows it once. Raises ClientError, BrokenPipeError."""
    async with redis.operator() as operator:
        now = await _Look(operator).once()
    if json:
        write_json(_json(now))
    else:
        _print(console(), now)
    behind = [group for group in now.groups if most is not None and group.lag > most]
    for group in behind:
        complain(f"group {group.name} of {group.stream} is {group.lag} behind, more than {most}")
    return EXIT_FAILED if behind else 0


async def watch(redis: Redis, json: bool) -> int:
    """Shows it until it is interrupted, or nobody reads it any more. Raises ClientError, BrokenPipeError."""
    async with redis.operator() as operator:
        await while_read(_show(_Look(operator), redis, json))
    return 0


async def _show(look: _Look, redis: Redis, json: bool) -> None:
    out = console()
    with Live(console=out, auto_refresh=False) if out.is_terminal and not json else nullcontext() as live:
        now = await look.once()
        while True:
            if json:
                write_json(_json(now))
            elif live is not None:
                live.update(Group(*_lines(now)), refresh=True)
            else:
                _print(out, now)
                out.print()
            now = await _next(look, redis)


async def _next(look: _Look, redis: Redis) -> Lag:
    """Waits while Redis is away. Raises Refused."""
    was_away = False
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            now = await look.once()
        except Unavailable as error:
            if not was_away:
                redis.report_connection(str(error))
            was_away = True
        else:
            if was_away:
                redis.report_connection(None)
            return now


def _print(out: Console, now: Lag) -> None:
    for line in _lines(now):
        print_line(out, line)


def _lines(now: Lag) -> list[Text]:
    """Two tables, the groups and the handlers."""
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
    for name in sorted(known.keys() | now.letters.keys()):
        one = known.get(name)
        seen = "" if one is None else "now" if one.is_there else f"{duration(one.age)} ago"
        wants = " ".join(one.statuses) if one is not None else ""
        group = one.group if one is not None else ""
        rows.append([name or "(whole entries)", group, str(now.letters[name]), seen, wants])
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
            "dead_letters": now.letters[name],
        }
        for name in sorted(known.keys() | now.letters.keys())
    ]
    return msgspec.json.encode({"groups": groups, "handlers": handlers})
