"""The table that closes a run of the fates: a line a fate and stage. A plugin, because with xdist the lines are made in one
process and printed by another: they travel as user properties of the reports."""

from typing import Any

import pytest

PROPERTY = "fate"
COLUMNS = ("fate", "expected", "published", "log", "bytes equal", "ok")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines: dict[str, dict[str, str]] = {}
    failed = set()
    for category, reports in terminalreporter.stats.items():
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue
            if category in ("failed", "error"):
                failed.add(report.nodeid)
            if report.when == "teardown":
                lines.update((report.nodeid, value) for name, value in report.user_properties if name == PROPERTY)
    for stage in sorted({line["stage"] for line in lines.values()}):
        terminalreporter.section(f"fates on {'a real node' if stage == 'cluster' else stage}")
        rows = [
            [*(line[column] for column in COLUMNS[:-1]), "NO" if nodeid in failed else "yes"]
            for nodeid, line in sorted(lines.items())
            if line["stage"] == stage
        ]
        for row in _aligned([list(COLUMNS), *rows]):
            terminalreporter.write_line(row)


def _aligned(rows: list[list[str]]) -> list[str]:
    """What was published as expected is not said twice."""
    shown = [[*row[:2], "as expected" if row[1] == row[2] else row[2], *row[3:]] for row in rows]
    widths = [max(len(row[at]) for row in shown) for at in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
