"""Runs the benchmarks one after the other, and prints the table at the end. BENCH=churn,outage runs only these."""

import importlib
import os
import platform

from rich.console import Console
from rich.table import Table

PARTS = ("watch", "ledger", "logs", "memory", "churn", "outage", "comeback", "sweep")


def main() -> None:
    console = Console()
    table = Table(title=f"Jobcast on Python {platform.python_version()}", title_justify="left")
    for column in ("what", "figure", "against"):
        table.add_column(column, justify="right" if column == "figure" else "left")
    for part in os.environ.get("BENCH", "").split(",") if os.environ.get("BENCH") else PARTS:
        console.print(f"measuring {part} ...", style="dim")
        for row in importlib.import_module(f"benchmarks.{part}").rows():
            table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
