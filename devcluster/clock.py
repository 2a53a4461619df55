"""Time as the API writes it: whole seconds, UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


def stamp(at: float | None = None) -> str:
    """`2026-01-31T12:00:00Z`; now when no Unix time is given."""
    return datetime.fromtimestamp(time.time() if at is None else at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def nano_stamp(at: int) -> str:
    """As `timestamps=true` prefixes log lines; `at` in nanoseconds of Unix time."""
    seconds, nanoseconds = divmod(at, 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds:09}Z"


@lru_cache(maxsize=16)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
