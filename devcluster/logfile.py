"""One container's output: exact bytes in a file, and when each piece of it came."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 64 * 1024


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
        self._times: list[float] = []
        self._waiting: set[asyncio.Event] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)

    def append(self, data: bytes) -> None:
        self._offsets.append(self.size)
        self._times.append(time.time())
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

    def time_at(self, offset: int) -> float:
        """When the byte at `offset` was written."""
        return self._times[max(bisect_right(self._offsets, offset) - 1, 0)] if self._times else time.time()

    def offset_since(self, at: float) -> int:
        """Where that begins which was written at that Unix time or later."""
        place = next((n for n, written in enumerate(self._times) if written >= at), None)
        return self.size if place is None else max(self._offsets[place], self.start)

    def offset_of_tail(self, lines: int) -> int:
        """Where the last so many lines begin; an unfinished one counts."""
        if lines == 0:
            return self.size
        end, needed = self.size, lines
        with self.path.open("rb") as file:
            position = end
            while position > self.start:
                begin = max(self.start, position - BLOCK)
                file.seek(begin)
                block = file.read(position - begin)
                if position == end and block.endswith(b"\n"):
                    needed += 1  # the newline that ends the last line begins no other
                at = len(block)
                while (at := block.rfind(b"\n", 0, at)) >= 0:
                    needed -= 1
                    if needed == 0:
                        return begin + at + 1
                position = begin
        return self.start

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(start)
            while start < end:
                block = file.read(min(BLOCK, end - start))
                if not block:
                    return
                start += len(block)
                yield block
