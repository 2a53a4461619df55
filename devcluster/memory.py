"""Memory limits, as far as they can be kept without root: look often, kill what is over. Linux only; elsewhere no limit."""

from __future__ import annotations

import os
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

LOOK_SECONDS = 0.05
"""Between looks. A kernel kills at once; a process that fills 1 GB a second overshoots by 50 MB here."""

_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_PAGE = os.sysconf("SC_PAGE_SIZE")


def quantity(text: str) -> int:
    """`16Mi`, `1G`, `128974848`, `129e6` in bytes."""
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            return int(Decimal(text[: -len(unit)]) * _UNITS[unit])
    return int(Decimal(text))


def resident(pid: int) -> int:
    """Bytes that a process and its descendants hold in memory; 0 for what is gone."""
    total = 0
    with suppress(OSError, ValueError, IndexError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += resident(int(child))
    return total
