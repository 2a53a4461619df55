"""Times: "3m ago" for people at a terminal, RFC 3339 elsewhere."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console

from jobcast.cli.render.output import escape

TimeFormat = Callable[[float, str], str]
"""Unix seconds, and the text to show for a number that is not a time."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def time_format(out: Console) -> TimeFormat:
    """The format for this output."""
    return ago if out.is_terminal else rfc3339


def rfc3339(seconds: float, otherwise: str = "") -> str:
    try:
        return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return escape(otherwise)


def ago(seconds: float, otherwise: str = "") -> str:
    """How long before now."""
    try:
        return f"{age(time.time() - seconds)} ago"
    except (OverflowError, ValueError):
        return escape(otherwise)


def age(seconds: float) -> str:
    """As kubectl shows ages: 45s, 3m20s, 2h, 5d. Clocks may differ a little: never negative."""
    whole = max(int(seconds), 0)
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    return f"{whole // _DAY}d"


def _two(seconds: int, unit: int, name: str, part: int, part_name: str) -> str:
    count, rest = divmod(seconds, unit)
    return f"{count}{name}" + (f"{rest // part}{part_name}" if rest >= part else "")
