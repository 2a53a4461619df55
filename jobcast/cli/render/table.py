"""The table of `jobcast watch`: one row per evaluation, the latest change first. Pure; text is escaped."""

import math
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from jobcast.cli.render.event import STYLES, duration, exit_code, first_line
from jobcast.cli.render.output import escape
from jobcast.event import Cancelled, Ended, Event, Progress, Running, Suspended
from jobcast.jobs.model import unix

MOST_ROWS = 1000
"""Evaluations that are remembered: more than a terminal shows, in little memory."""
FRAME_LINES = 6
"""Lines of the terminal without rows: heading, rules, caption and prompt."""


@dataclass(slots=True)
class Row:
    eval_id: str
    job: str
    status: str
    started: float | None = None
    """Unix seconds; None if it is not seen running."""
    took: float | None = None
    exit: str = ""
    why: str = ""


class WatchTable:
    """The last event or progress of each evaluation."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        """The latest change is last."""
        self.is_listening = False
        """Whether every event from now on is received."""

    def add(self, published: Event | Progress) -> None:
        row = self._rows.pop(published.eval_id, None)
        job = f"{published.job.namespace}/{published.job.name}"
        if isinstance(published, Progress):
            if row is None or row.job != job:
                row = Row(published.eval_id, job, published.status)
            attempt = published.attempt
            details = (exit_code(attempt.exit_code), attempt.reason, attempt.message)
            row.why = "  ".join([published.kind, *(first_line(detail) for detail in details if detail)])
        else:
            row = _row(published, job)
        self._rows[published.eval_id] = row
        while len(self._rows) > MOST_ROWS:
            del self._rows[next(iter(self._rows))]

    def render(self, now: float, height: int, error: str | None) -> Table:
        """As many rows as fit. `now`: Unix seconds."""
        room = max(height - FRAME_LINES, 1)
        shown = list(reversed(self._rows.values()))[:room]
        table = Table(box=SIMPLE_HEAD, expand=True, caption=self._caption(len(shown), error), caption_justify="left")
        for name in ("status", "evaluation", "Job"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        for name in ("time", "exit"):
            table.add_column(name, no_wrap=True, justify="right")
        table.add_column("reason", no_wrap=True, overflow="ellipsis", ratio=1)
        for row in shown:
            took = max(now - row.started, 0.0) if row.started is not None else row.took
            table.add_row(
                Text(escape(row.status), STYLES.get(row.status, "")),
                Text(escape(row.eval_id)),
                Text(escape(row.job), "dim"),
                Text(duration(math.floor(took) if row.started is not None and took is not None else took)),
                Text(row.exit),
                Text(row.why),
            )
        return table

    def _caption(self, shown: int, error: str | None) -> Text:
        if error:
            return Text(f"waiting for Redis: {escape(error)}", "bold yellow")
        if not self._rows:
            text = "no events yet; --since 1h also shows past events" if self.is_listening else "connecting"
            return Text(text, "dim")
        return Text(f"{len(self._rows) - shown} more" if len(self._rows) > shown else "", "dim")


def _row(event: Event, job: str) -> Row:
    row = Row(event.eval_id, job, event.status)
    match event:
        case Running():
            row.started = _unix(event.started_at) or event.timestamp
        case Ended():
            row.took = event.duration_seconds
            row.exit = "?" if event.exit_code is None else str(event.exit_code)
            row.why = "  ".join(filter(None, (escape(event.reason or ""), first_line(event.error or event.output))))
        case Cancelled() | Suspended():
            row.why = escape(event.reason or "")
    return row


def _unix(time: str | None) -> float | None:
    try:
        return unix(time) if time else None
    except ValueError:
        return None
