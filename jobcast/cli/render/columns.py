"""Rows as aligned columns. Their text may come from other programs, and is escaped."""

from collections.abc import Sequence

from jobcast.cli.render.output import escape


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines; an empty cell is a dash."""
    shown = [[escape(cell or ("" if column == 0 else "-")) for column, cell in enumerate(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
