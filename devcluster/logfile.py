"""One container's output: exact bytes in a file, and when each piece of it came."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 64 * 1024
PART = 16 * 1024
"""containerd splits longer lines. The kubelet counts the parts as lines, and only the first part has a time."""


@dataclass(frozen=True)
class Rotation:
    """When a log loses what it had, as long as somebody writes it."""

    bytes: int | None = None
    """None: never."""
    seconds: float = 10.0
    """Between looks."""


NEVER = Rotation()


class LogFile:
    """Grows while the container runs; read by any number of followers."""

    def __init__(self, path: Path, rotation: Rotation = NEVER) -> None:
        self.path = path
        self.size = 0
        self.start = 0
        """Where the readable part begins: a rotated log has lost what was before."""
        self.closed = False
        self._rotation = rotation
        self._looked = time.monotonic()
        self._offsets: list[int] = []
        self._times: list[int] = []
        self._last_time = 0
        self._waiting: set[asyncio.Event] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)

    def append(self, data: bytes) -> None:
        self._offsets.append(self.size)
        self._times.append(max(time.time_ns(), self._last_time + 1))
        self._last_time = self._times[-1] + len(data)
        self._file.write(data)
        self.size += len(data)
        if self._rotation.bytes:
            self._rotate(self._rotation.bytes)
        self._wake()

    def _rotate(self, limit: int) -> None:
        if time.monotonic() - self._looked >= self._rotation.seconds:
            self._looked = time.monotonic()
            if self.size - self.start > limit:
                self.start = self.size

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._file.close()
            self._wake()

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()

    async def grown(self, beyond: int) -> bool:
        """Wait until there is more than `beyond`; False when there never will be."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while self.size <= beyond and not self.closed:
                event.clear()
                await event.wait()
        finally:
            self._waiting.discard(event)
        return self.size > beyond

    def time_at(self, offset: int) -> int:
        """When the byte at `offset` was written, in nanoseconds of Unix time: each has a time of its own."""
        if not self._times:
            return time.time_ns()
        place = max(bisect_right(self._offsets, offset) - 1, 0)
        return self._times[place] + offset - self._offsets[place]

    def offset_since(self, at: float) -> int:
        """Where that begins which was written at that Unix time or later: a line, or a part of a long one."""
        place = next((n for n, written in enumerate(self._times) if written >= at * 1e9), None)
        if place is None:
            return self.size
        offset = max(self._offsets[place], self.start)
        begin = next(self._begins(offset))
        if offset == begin:
            return offset
        part = begin + -(-(offset - begin) // PART) * PART
        end = self._end_of_line(offset)
        return part if part < end else min(end + 1, self.size)

    def offset_of_tail(self, lines: int) -> int:
        """Where the last so many lines begin, counting the parts of long ones; an unfinished line counts."""
        # The newline that ends the last line begins no other.
        offset = self.size
        end = offset - 1 if offset > self.start and self.begins_line(offset) else offset
        for begin in self._begins(end):
            if lines <= 0:
                break
            parts = max(-(-(end - begin) // PART), 1)
            offset = begin + max(parts - lines, 0) * PART
            lines, end = lines - parts, begin - 1
        return offset

    def begins_line(self, offset: int) -> bool:
        with self.path.open("rb") as file:
            file.seek(max(offset - 1, 0))
            return offset <= self.start or file.read(1) == b"\n"

    def _begins(self, end: int) -> Iterator[int]:
        """Where the lines before `end` begin, the last first."""
        with self.path.open("rb") as file:
            position = end
            while position > self.start:
                begin = max(self.start, position - BLOCK)
                file.seek(begin)
                block = file.read(position - begin)
                at = len(block)
                while (at := block.rfind(b"\n", 0, at)) >= 0:
                    yield begin + at + 1
                position = begin
        yield self.start

    def _end_of_line(self, offset: int) -> int:
        """Where its newline is; the end of an unfinished line."""
        for block in self.blocks(offset, self.size):
            at = block.find(b"\n")
            if at >= 0:
                return offset + at
            offset += len(block)
        return offset

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(start)
            while start < end:
                block = file.read(min(BLOCK, end - start))
                if not block:
                    return
                start += len(block)
                yield block
