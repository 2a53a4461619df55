"""Completion indexes and how they are written: `0-2,5`. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from devcluster.errors import Obj

INDEX = "batch.kubernetes.io/job-completion-index"


def parse_indexes(text: str | None) -> set[int]:
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """Neighbours joined; two of them with a comma, three and more with a dash between the ends, as a real server."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(set(indexes)), None]:
        if index is not None and (not run or index == run[-1] + 1):
            run.append(index)
            continue
        if len(run) > 2:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts += [str(item) for item in run]
        run = [] if index is None else [index]
    return ",".join(parts)


def index_of(pod: Obj) -> int | None:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX)
    return int(text) if text is not None else None
