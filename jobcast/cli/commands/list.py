"""`jobcast list`: evaluations, the latest change first."""

from typing import Annotated

import typer

from jobcast.cli.options import (
    Format,
    Json,
    Labels,
    Namespaces,
    TableOutput,
    labels_of,
    split,
    table_format,
    when_of,
)
from jobcast.cli.redis import Redis
from jobcast.cli.render.list import print_table
from jobcast.cli.render.output import complain, console, print_id, write_json
from jobcast.cli.render.record import record_json
from jobcast.cli.run import carry_out, wrong
from jobcast.cli.selection import NONE_FOUND, check_namespaces
from jobcast.client import Record
from jobcast.client.listing import STATUSES, Listing, listing
from jobcast.client.operator import Operator

LIMIT = 50
PAGE = 200
"""Rows that are aligned with each other; memory stays bounded for any number of evaluations."""

Statuses = Annotated[
    list[str] | None,
    typer.Option("--status", metavar="STATUS,...", help="Only with this status: " + ", ".join(STATUSES)),
]
Pipelines = Annotated[
    list[str] | None,
    typer.Option("--pipeline", metavar="NAME", help="Short for --label pipeline=NAME; may be repeated"),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Only if changed since then: 2h, 1d12h or 2026-11-20T10:00:00Z"),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most this many; 0 is no limit")]


def list_(
    status: Statuses = None,
    namespace: Namespaces = None,
    label: Labels = None,
    pipeline: Pipelines = None,
    since: Since = None,
    limit: Limit = LIMIT,
    output: TableOutput = None,
    json: Json = False,
    *,
    redis: Redis,
) -> None:
    """List evaluations, the latest change first. `jobcast ls` is short for it.

    Jobcast calls every Job that it watches an evaluation. A list that --limit
    cuts says so at a terminal.
    """
    labels = labels_of(label)
    if pipeline:
        labels.setdefault("pipeline", []).extend(split(pipeline))
    wanted = listing_of(split(status), namespace, labels, since, limit)
    carry_out(show_list(redis, wanted, table_format(output, json)), redis)


def listing_of(
    statuses: list[str],
    namespaces: list[str] | None,
    labels: dict[str, list[str]],
    since: str | None = None,
    limit: int = LIMIT,
) -> Listing:
    """Ends the command with code 2, naming the option that is wrong."""
    begin = when_of("--since", since)
    check_namespaces(namespaces or ())
    try:
        return listing(statuses, namespaces or None, labels)._replace(since=begin, limit=limit or None)
    except ValueError as error:
        raise wrong("--status", error) from None


async def show_list(redis: Redis, wanted: Listing, output: Format | None) -> int:
    """Raises ClientError, BrokenPipeError."""
    async with redis.operator() as jobcast:
        if output in (Format.JSON, Format.NAME):
            count = await _write(jobcast, wanted, is_json=output is Format.JSON)
        else:
            count = await _print(jobcast, wanted, is_wide=output is Format.WIDE)
    if not count:
        complain(NONE_FOUND)
    return 0


async def _write(jobcast: Operator, wanted: Listing, *, is_json: bool) -> int:
    count = 0
    async for record in jobcast.list_matching(wanted):
        write_json(record_json(record)) if is_json else print_id(record.eval_id)
        count += 1
    return count


async def _print(jobcast: Operator, wanted: Listing, *, is_wide: bool) -> int:
    out, page, count = console(), list[Record](), 0
    one_more = wanted._replace(limit=wanted.limit + 1) if wanted.limit is not None else wanted
    async for record in jobcast.list_matching(one_more):
        if len(page) == PAGE or count == wanted.limit:
            print_table(out, page, is_wide=is_wide, has_head=count <= PAGE)
            page = []
        if count == wanted.limit:
            if out.is_terminal:
                complain(f"the latest {count} are shown; use --limit to see more")
            return count
        page.append(record)
        count += 1
    if page:
        print_table(out, page, is_wide=is_wide, has_head=count <= PAGE)
    return count
