"""Logs as the kubelet sends them: with times, from a time on, and their last lines."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

PART = 16 * 1024
"""A container runtime splits longer lines. The kubelet counts the parts as lines, and only a line's first part has a time."""
BEGINNING = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)
Entry = tuple[str, bytes]
"""A time, and a line or a part of one."""


def time_of(number: int, step: float = 0.3, offset: str = "Z") -> str:
    at = BEGINNING + timedelta(seconds=number * step)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{number % 1000:03}{offset}"


def entries(log: bytes, *, step: float = 0.3, offset: str = "Z") -> list[Entry]:
    """The log file. With a step of 0 many lines have the same time but for the nanoseconds."""
    found: list[bytes] = []
    for line in _lines(log):
        end = len(line) - line.endswith(b"\n")
        parts = [line[at : at + PART] for at in range(0, max(end, 1), PART)]
        if line.endswith(b"\n") and not parts[-1].endswith(b"\n"):
            parts[-1] += b"\n"
        found += parts
    return [(time_of(number, step, offset), part) for number, part in enumerate(found)]


def _lines(log: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in log.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def send(file: list[Entry], more: Mapping[str, str], *, is_new_line: bool = True) -> bytes:
    """The answer to a request with these parameters; `is_new_line`: what was sent before ended with a line."""
    chosen, out = file, []
    if "tailLines" in more:
        chosen = file[max(len(file) - int(more["tailLines"]), 0) :]
    for time, part in chosen:
        if _is_since(time, more.get("sinceTime")):
            out.append(f"{time} ".encode() if is_new_line and "timestamps" in more else b"")
            out.append(part)
        is_new_line = part.endswith(b"\n")
    answer = b"".join(out)
    return answer[: int(more["limitBytes"])] if "limitBytes" in more else answer


def _is_since(time: str, since: str | None) -> bool:
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text[:26] + text[29:] if len(text) > 25 else text)

    return since is None or moment(time) >= moment(since)


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in chunks of these sizes, over and over."""
    at, number = 0, 0
    while at < len(data):
        size = max(sizes[number % len(sizes)], 1) if sizes else len(data)
        yield data[at : at + size]
        at, number = at + size, number + 1
