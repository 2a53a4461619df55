"""The life of the evaluations as a table, redrawn as events come; where there is no terminal, a line for each event."""

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.jobs import EVALUATIONS
from jobcast.cli.render.event import STYLES, line
from jobcast.event import Cancelled, Completed, Event, Failed


class Screen:
    """Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._events: dict[str, list[Event]] = {evaluation.name: [] for evaluation in EVALUATIONS}
        self._live = (
            Live(console=console, get_renderable=self.table, auto_refresh=False) if console.is_terminal else None
        )

    def __enter__(self) -> "Screen":
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, event: Event) -> None:
        self._events[event.eval_id].append(event)
        if self._live:
            self._live.refresh()
        else:
            self._console.print(line(event), soft_wrap=True)

    def table(self) -> Table:
        table = Table(title="Evaluation Jobs, as a subscriber sees them", title_justify="left", expand=False)
        for column in ("evaluation", "what it does", "events", "exit", "attempts", "reason", "output"):
            table.add_column(column, no_wrap=column != "output")
        for evaluation in EVALUATIONS:
            events = self._events[evaluation.name]
            statuses = Text(" → ").join(Text(event.status.value, STYLES[event.status]) for event in events)
            table.add_row(evaluation.name, evaluation.fate, statuses, *_facts(events[-1] if events else None))
        return table


def _facts(event: Event | None) -> tuple[str, str, str, Text]:
    if isinstance(event, Completed | Failed):
        exit_code = "unknown" if event.exit_code is None else str(event.exit_code)
        output = Text(" ⏎ ".join(event.output.splitlines()), overflow="ellipsis")
        return exit_code, str(len(event.attempts)), event.reason or "", output
    if isinstance(event, Cancelled):
        return "", "", event.reason, Text(f"was {event.last_status}")
    return "", "", "", Text()
