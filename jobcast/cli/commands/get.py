"""`jobcast get`: the record of an evaluation, or the list of several."""

from jobcast.cli.commands.list import listing_of, show_list
from jobcast.cli.options import (
    EvalIds,
    Format,
    Json,
    Labels,
    Namespaces,
    TableOutput,
    labels_of,
    table_format,
)
from jobcast.cli.redis import Redis
from jobcast.cli.render.list import print_table
from jobcast.cli.render.output import complain, console, print_id, write_json
from jobcast.cli.render.progress import waiting_for
from jobcast.cli.render.record import print_page, record_json
from jobcast.cli.run import EXIT_FAILED, carry_out
from jobcast.cli.selection import Selection, selection
from jobcast.client import Record


def get(
    evaluations: EvalIds = None,
    namespace: Namespaces = None,
    label: Labels = None,
    output: TableOutput = None,
    json: Json = False,
    *,
    redis: Redis,
) -> None:
    """Show an evaluation: its status, attempts and output.

    Several ids, or --label, show a table. Without arguments it is `jobcast
    list`. Exit code 1 if an id is not found.
    """
    shown = table_format(output, json)
    if not evaluations:
        wanted = listing_of([], namespace, labels_of(label))
        carry_out(show_list(redis, wanted, shown), redis)
    chosen = selection(evaluations, label, namespace)
    carry_out(_get(redis, chosen, shown), redis)


async def _get(redis: Redis, chosen: Selection, output: Format | None) -> int:
    """Raises ClientError, BrokenPipeError."""
    found: list[Record] = []
    async with redis.client() as jobcast, waiting_for(f"asking Redis at {redis.where}"):
        for eval_id in chosen.ids:
            record = await jobcast.get(eval_id)
            if record is not None and (not chosen.namespaces or record.namespace in chosen.namespaces):
                found.append(record)
                continue
            where = f", namespace {' or '.join(chosen.namespaces)}" if chosen.namespaces else ""
            complain(f"evaluation {eval_id!r} not found at {redis.where}, prefix {redis.prefix}{where}")
    _show(found, chosen, output)
    return 0 if len(found) == len(chosen.ids) else EXIT_FAILED


def _show(found: list[Record], chosen: Selection, output: Format | None) -> None:
    if output in (Format.JSON, Format.NAME):
        for record in found:
            write_json(record_json(record)) if output is Format.JSON else print_id(record.eval_id)
    elif chosen.is_one and output is None:
        for record in found:
            print_page(console(), record)
    elif found:
        print_table(console(), found, is_wide=output is Format.WIDE, has_head=True)
