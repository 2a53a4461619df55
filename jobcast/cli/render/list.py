"""The table of `jobcast list`: one row per evaluation, in kubectl's manner."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from jobcast.cli.render.columns import columns
from jobcast.cli.render.event import STYLES, duration, first_line
from jobcast.cli.render.output import print_line
from jobcast.cli.render.times import TimeFormat, time_format
from jobcast.client import Record
from jobcast.event import Cancelled, Ended, Suspended

HEAD = ["EVALUATION", "STATUS", "EXIT", "DURATION", "UPDATED", "JOB"]
WIDE = ["CREATED", "ATTEMPTS", "REASON", "LABELS"]
_NO_LABELS = {"job_name", "completed_at", "failed_at", "log_source"}
"""What an event's metadata has beside the Job's labels."""
_STATUS = HEAD.index("STATUS")


def print_table(out: Console, records: Sequence[Record], *, is_wide: bool, has_head: bool) -> None:
    show = time_format(out)
    rows = [HEAD + (WIDE if is_wide else [])]
    rows += [_row(record, show) + (_wide(record, show) if is_wide else []) for record in records]
    lines = columns(rows)
    at = lines[0].index(HEAD[_STATUS])
    if has_head:
        print_line(out, Text(lines[0]))
    for record, line in zip(records, lines[1:], strict=True):
        text = Text(line)
        text.stylize(STYLES.get(record.status, ""), at, at + len(record.status))
        print_line(out, text)


def _row(record: Record, show: TimeFormat) -> list[str]:
    event = record.event
    ended = event if isinstance(event, Ended) else None
    exit_code = "" if ended is None else "?" if ended.exit_code is None else str(ended.exit_code)
    return [
        record.eval_id,
        record.status,
        exit_code,
        duration(ended.duration_seconds) if ended is not None else "",
        show(event.timestamp, event.time) if event is not None else _created(record, show),
        f"{record.namespace}/{record.name}",
    ]


def _wide(record: Record, show: TimeFormat) -> list[str]:
    event = record.event
    metadata = event.metadata if event is not None else {}
    return [
        _created(record, show),
        str(len(record.attempts)),
        _reason(record),
        ",".join(f"{name}={value}" for name, value in sorted(metadata.items()) if name not in _NO_LABELS),
    ]


def _reason(record: Record) -> str:
    event = record.event
    if record.waiting is not None and not record.is_ended:
        return record.waiting.reason
    return first_line(event.reason or "") if isinstance(event, Ended | Cancelled | Suspended) else ""


def _created(record: Record, show: TimeFormat) -> str:
    return show(record.jobs[-1].created, "") if record.jobs else ""
