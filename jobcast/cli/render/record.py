"""The page of an evaluation. Its text comes from other programs, and is escaped."""

from datetime import datetime

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobcast.cli.render.columns import columns
from jobcast.cli.render.event import STYLES, duration, first_line
from jobcast.cli.render.output import escape, escape_lines
from jobcast.cli.render.times import TimeFormat, time_format
from jobcast.client import Record
from jobcast.event import Attempt, Cancelled, Ended, Event, Log, Running, Suspended
from jobcast.wire import UNREADABLE

Fact = tuple[str, str]


def record_json(record: Record) -> bytes:
    """The record with the event exactly as published; null for one that is not JSON."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("event", "raw")}
    raw = record.raw or b"null"
    try:
        msgspec.json.decode(raw)
    except UNREADABLE:
        raw = b"null"
    return msgspec.json.encode({**fields, "event": msgspec.Raw(raw)})


def print_page(out: Console, record: Record) -> None:
    """The facts, the attempts, and the output last."""
    show = time_format(out)
    print_facts(out, [(name, value) for name, value in facts(record, show) if value])
    if record.attempts:
        out.print(Text("attempts", "dim"))
        for line in columns(attempts(record, show)):
            out.print(Text("  " + line), soft_wrap=True)
    event = record.event
    if isinstance(event, Ended) and event.output:
        out.print(Text("output, an excerpt" if event.output_truncated else "output", "dim"))
        for line in escape_lines(event.output.rstrip("\n")):
            out.print(Text("  " + line), soft_wrap=not out.is_terminal)


def print_facts(out: Console, found: list[Fact]) -> None:
    """One per line, escaped."""
    if not out.is_terminal:
        for line in columns(found):
            out.print(Text(line), soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found:
        table.add_row(name, Text(escape(value), STYLES.get(value, "") if name == "status" else ""))
    out.print(table)


def facts(of: Record, show: TimeFormat) -> list[Fact]:
    """Name and value; an empty value is unknown."""
    event, waiting, indexes = of.event, of.waiting, of.indexes
    found = [("evaluation", of.eval_id), ("status", of.status), ("job", f"{of.namespace}/{of.name}  {of.uid}")]
    found += [
        ("former job", f"{job.namespace}/{job.name}  {job.uid}  {show(job.created, '')}  {job.status}")
        for job in reversed(of.jobs[:-1])
    ]
    if waiting is not None:
        why = f"{waiting.reason}: {waiting.message}" if waiting.message else waiting.reason
        found.append(("waiting", f"{waiting.pod}  {why}"))
    if event is None and of.raw is not None:
        found.append(("event", "not readable by this version of jobcast; see -o json"))
    if event is not None:
        found += [("time", show(event.timestamp, event.time)), ("event", event.id)]
    if not isinstance(event, Running):
        found.append(("started", _time(of.started_at, show)))
    if event is not None:
        found += _of_event(event, show)
    if indexes is not None:
        parts = [("completed", indexes.completed), ("failed", indexes.failed), ("of", indexes.total)]
        found.append(("indexes", "  ".join(f"{name} {value}" for name, value in parts if value not in (None, ""))))
    if isinstance(event, Ended):
        found += [("log", _log(event.log)), ("log kept at", _latest(of, event.log).ref or "")]
        found += [("artifact", f"{artifact.name}  {artifact.location}") for artifact in event.artifacts]
    if event is not None:
        found += [("warning", warning) for warning in event.warnings]
        found += [("metadata", f"{name}={value}") for name, value in sorted(event.metadata.items())]
    return found


def _of_event(event: Event, show: TimeFormat) -> list[Fact]:
    match event:
        case Running():
            return [("started", _time(event.started_at, show)), ("timeout", duration(event.timeout))]
        case Suspended():
            return [("reason", event.reason or "")]
        case Cancelled():
            return [("reason", event.reason), ("last status", event.last_status)]
        case _:
            by = f"  (init container {event.container})" if event.role == "init" else ""
            return [
                ("exit code", f"{'unknown' if event.exit_code is None else event.exit_code}{by}"),
                ("duration", duration(event.duration_seconds)),
                ("reason", event.reason or ""),
                ("error", event.error or ""),
            ]


def attempts(of: Record, show: TimeFormat) -> list[list[str]]:
    """Rows of a table; the first is its head."""
    has_index = any(attempt.index is not None for attempt in of.attempts)
    rows = [["", "pod", *(["index"] if has_index else []), "container", "exit", "reason", "restarts", "log"]]
    rows[0] += ["started", "finished", "message"]
    for number, attempt in enumerate(of.attempts, 1):
        index = ["" if attempt.index is None else str(attempt.index)] if has_index else []
        rows.append(
            [
                str(number),
                attempt.pod,
                *index,
                (attempt.container or "") + (" (init)" if attempt.role == "init" else ""),
                "" if attempt.exit_code is None else str(attempt.exit_code),
                attempt.reason or "",
                str(attempt.restarts),
                _attempt_log(of, attempt),
                _time(attempt.started_at, show),
                _time(attempt.finished_at, show),
                first_line(attempt.message or ""),
            ]
        )
    return rows


def _attempt_log(of: Record, attempt: Attempt) -> str:
    """The state of the log of the deciding container."""
    known = [log for log in (*of.logs, *attempt.logs) if log.source == f"{attempt.pod}/{attempt.container}"]
    if not known:
        return ""
    log = max(known, key=lambda log: (log.instance, log.ref is not None))
    if log.ref is None and log.state != "unavailable" and log.bytes:
        return f"not kept ({log.reason})" if log.reason else "not kept"
    return f"{log.state} ({log.reason})" if log.reason else log.state


def _log(log: Log) -> str:
    return f"{log.state}, {log.bytes} bytes" + (f" ({log.reason})" if log.reason else "")


def _latest(of: Record, log: Log) -> Log:
    """The latest state of the log: it may be uploaded after the event was published."""
    return next((one for one in of.logs if (one.source, one.instance) == (log.source, log.instance)), log)


def _time(value: str | None, show: TimeFormat) -> str:
    try:
        return show(datetime.fromisoformat(value).timestamp(), value) if value else ""
    except ValueError:
        return value or ""
