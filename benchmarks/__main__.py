"""Runs the rows one after the other, and prints the table last."""

import platform

from rich.console import Console
from rich.table import Table

from benchmarks import ledger, logs, memory, watch


def main() -> None:
    console = Console()
    table = Table(title=f"Jobcast on Python {platform.python_version()}", title_justify="left")
    for column in ("what", "figure", "against"):
        table.add_column(column, justify="right" if column == "figure" else "left")
    for part in (watch, ledger, logs, memory):
        console.print(f"measuring {part.__name__.rpartition('.')[2]} ...", style="dim")
        for row in part.rows():
            table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
