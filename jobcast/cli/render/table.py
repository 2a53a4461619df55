"""The table of `jobcast watch`: one row an evaluation, the latest change first. Pure; what strangers wrote is made harmless."""

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
"""Evaluations that are remembered: many more than a terminal shows, and less than anybody's memory."""
FRAME_LINES = 6
"""Of the terminal's height: heading, rules, the line below, and the prompt's."""


@dataclass(slots=True)
class Row:
    eval_id: str
    job: str
    status: str
    started: float | None = None
    """Unix seconds; None once it has ended, and for one that was not seen running."""
    took: float | None = None
    exit: str = ""
    why: str = ""


class Board:
    """What was told of each evaluation last."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        """The latest change last."""
        self.is_listening = False
        """Whether whatever is told from now on will be seen."""

    def feed(self, told: Event | Progress) -> None:
        row = self._rows.pop(told.eval_id, None)
        job = f"{told.job.namespace}/{told.job.name}"
        if isinstance(told, Progress):
            if row is None or row.job != job:
                row = Row(told.eval_id, job, told.status)
            attempt = told.attempt
            details = (exit_code(attempt.exit_code), attempt.reason, attempt.message)
            row.why = "  ".join([told.kind, *(first_line(detail) for detail in details if detail)])
        else:
            row = _row(told, job)
        self._rows[told.eval_id] = row
        while len(self._rows) > MOST_ROWS:
            del self._rows[next(iter(self._rows))]

    def table(self, now: float, height: int, trouble: str | None) -> Table:
        """As many rows as there is room for. `now`: Unix seconds, for how long something has been running."""
        room = max(height - FRAME_LINES, 1)
        shown = list(reversed(self._rows.values()))[:room]
        table = Table(box=SIMPLE_HEAD, expand=True, caption=self._caption(len(shown), trouble), caption_justify="left")
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

    def _caption(self, shown: int, trouble: str | None) -> Text:
        if trouble:
            return Text(f"waiting for Redis: {escape(trouble)}", "bold yellow")
        if not self._rows:
            told = "nothing was told yet; --since 1h begins with what was" if self.is_listening else "connecting"
            return Text(told, "dim")
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
