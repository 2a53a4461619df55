"""Events and progress as one line for people. Their text comes from other programs, and is escaped."""

from rich.text import Text

from jobcast.cli.render.output import escape
from jobcast.cli.render.times import TimeFormat, rfc3339
from jobcast.event import Cancelled, Completed, Event, Failed, Progress, Running, Suspended

STYLES = {
    "pending": "dim",
    "running": "cyan",
    "suspended": "magenta",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
}
OUTPUT_CHARACTERS = 200
"""Of the output's first line, in the line of an event."""


def line(event: Event, show_time: TimeFormat = rfc3339) -> Text:
    """The event in one line: time, status, evaluation, Job, and what its status adds."""
    text = Text()
    text.append(show_time(event.timestamp, event.time), "dim")
    text.append(f"  {event.status.value:9}", STYLES[event.status])
    text.append(f"  {escape(event.eval_id):16}  ")
    text.append(f"{escape(event.job.namespace)}/{escape(event.job.name)}", "dim")
    for detail in _details(event):
        text.append("  " + detail)
    return text


def progress_line(progress: Progress) -> Text:
    """The progress in one line, indented more than the events' lines."""
    text = Text(style="dim")
    text.append(f"{rfc3339(progress.timestamp, progress.time)}    {progress.kind:14}  ")
    text.append(f"{escape(progress.eval_id):11}  {escape(progress.job.namespace)}/{escape(progress.job.name)}")
    attempt = progress.attempt
    index = None if attempt.index is None else f"index {attempt.index}"
    by = f"init container {attempt.container}" if attempt.role == "init" else None
    for detail in (attempt.pod, index, by, exit_code(attempt.exit_code), attempt.reason, attempt.message):
        if detail:
            text.append("  " + first_line(detail))
    return text


def _details(event: Event) -> list[str]:
    match event:
        case Completed() | Failed():
            known = [
                exit_code(event.exit_code),
                duration(event.duration_seconds),
                escape(event.reason or ""),
                first_line(event.output),
            ]
            return [detail for detail in known if detail]
        case Cancelled():
            return [escape(event.reason), f"was {escape(event.last_status)}"]
        case Suspended():
            return [escape(event.reason)] if event.reason else []
        case Running():
            return []


def exit_code(code: int | None) -> str:
    return "exit unknown" if code is None else f"exit {code}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def first_line(output: str) -> str:
    """Escaped, and not too long."""
    # Cut before escaping: an output may be megabytes in one line.
    first = output.lstrip()[: OUTPUT_CHARACTERS * 2].split("\n", 1)[0]
    shown = escape(first.expandtabs(1).rstrip())
    return shown if len(shown) <= OUTPUT_CHARACTERS else shown[: OUTPUT_CHARACTERS - 1] + "…"


def count_of(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
