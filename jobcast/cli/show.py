"""Events and records as people read them. Everything in them was written by strangers, and is made harmless."""

from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobcast.cli.output import harmless, harmless_lines
from jobcast.client import Record
from jobcast.event import Attempt, Cancelled, Completed, Ended, Event, Failed, Running, Suspended

STYLES = {
    "pending": "dim",
    "running": "cyan",
    "suspended": "magenta",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
}
OUTPUT_CHARACTERS = 200
"""Of the output's first line, in a line about an event."""


def line(event: Event) -> Text:
    """The event in one line: time, status, evaluation, Job, and what its status adds."""
    text = Text()
    text.append(_time(event), "dim")
    text.append(f"  {event.status.value:9}", STYLES[event.status])
    text.append(f"  {harmless(event.eval_id):16}  ")
    text.append(f"{harmless(event.job.namespace)}/{harmless(event.job.name)}", "dim")
    for detail in _details(event):
        text.append("  " + detail)
    return text


def record(of: Record) -> RenderableType:
    """All that is known of an evaluation, its output last."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    event = of.event
    rows: list[tuple[str, Text | str]] = [
        ("evaluation", harmless(of.eval_id)),
        ("status", Text(harmless(of.status), STYLES.get(of.status, ""))),
        ("job", f"{harmless(of.namespace)}/{harmless(of.name)}  {harmless(of.uid)}"),
    ]
    if event is None and of.raw is not None:
        rows.append(("event", "not readable by this version of jobcast; see --json"))
    if event is not None:
        rows += [("time", _time(event)), ("event", harmless(event.id)), *_facts(event)]
        rows += [("metadata", f"{harmless(name)}={harmless(value)}") for name, value in sorted(event.metadata.items())]
    for name, value in rows:
        table.add_row(name, value)
    if not isinstance(event, Ended) or not event.output:
        return table
    title = "output, an excerpt" if event.output_truncated else "output"
    return Group(
        table, Text(title, "dim"), *(Text("  " + shown) for shown in harmless_lines(event.output.rstrip("\n")))
    )


def _details(event: Event) -> list[str]:
    match event:
        case Completed() | Failed():
            known = [
                "exit unknown" if event.exit_code is None else f"exit {event.exit_code}",
                _duration(event.duration_seconds),
                harmless(event.reason or ""),
                _first_line(event.output),
            ]
            return [detail for detail in known if detail]
        case Cancelled():
            return [harmless(event.reason), f"was {harmless(event.last_status)}"]
        case Suspended():
            return [harmless(event.reason)] if event.reason else []
        case Running():
            return []


def _facts(event: Event) -> list[tuple[str, str]]:
    match event:
        case Running():
            facts = [("started", event.started_at or ""), ("timeout", _duration(event.timeout))]
        case Suspended():
            facts = [("reason", event.reason or "")]
        case Cancelled():
            facts = [("reason", event.reason), ("last status", event.last_status)]
        case Completed() | Failed():
            log = event.log
            facts = [
                ("exit code", "unknown" if event.exit_code is None else str(event.exit_code)),
                ("duration", _duration(event.duration_seconds)),
                ("reason", event.reason or ""),
                ("error", event.error or ""),
                *(("attempt", _attempt(attempt)) for attempt in event.attempts),
                ("log", f"{log.state}, {log.bytes} bytes" + (f" ({log.reason})" if log.reason else "")),
            ]
    return [(name, harmless(value)) for name, value in facts if value]


def _attempt(attempt: Attempt) -> str:
    exit_code = "exit unknown" if attempt.exit_code is None else f"exit {attempt.exit_code}"
    parts = [attempt.pod, exit_code, attempt.reason or ""]
    if attempt.restarts:
        parts.append(f"{attempt.restarts} restarts")
    return "  ".join(part for part in parts if part)


def _time(event: Event) -> str:
    try:
        return datetime.fromtimestamp(event.timestamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return harmless(event.time)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _first_line(output: str) -> str:
    # Cut before it is made harmless: an output may be megabytes in one line.
    first = output.lstrip()[: OUTPUT_CHARACTERS * 2].split("\n", 1)[0]
    shown = harmless(first.expandtabs(1).rstrip())
    return shown if len(shown) <= OUTPUT_CHARACTERS else shown[: OUTPUT_CHARACTERS - 1] + "…"
