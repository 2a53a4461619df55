"""The attempts to read one log: the slot they need, and which attempt counts."""

import asyncio
from typing import NamedTuple

from msgspec.structs import replace

from jobcast.event import Log
from jobcast.jobs.facts import unavailable
from jobcast.logs.excerpt import Excerpt
from jobcast.logstore.base import LogPlace, LogStore
from jobcast.logstore.uploader import Uploader

HANG_SECONDS = 2.0
"""A read without data for so long gives its slot to another: otherwise one node that does not answer could block all slots."""


class ReadSlot:
    """One of the slots for concurrent reads. A read that hangs gives it up, and takes one again when data arrives."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._is_held = False

    async def __aenter__(self) -> "ReadSlot":
        await self._acquire()
        self._timer = self._loop.call_later(HANG_SECONDS, self._release_if_hung)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._is_held:
            self._slots.release()

    async def resume(self) -> None:
        """Data has arrived: take a slot again if the read has given its own up."""
        self._active_at = self._loop.time()
        if not self._is_held:
            await self._acquire()

    def hold(self) -> None:
        """The read is over: keep the slot, if there is one, until the context ends."""
        self._timer.cancel()

    async def _acquire(self) -> None:
        await self._slots.acquire()
        self._is_held = True
        self._active_at = self._loop.time()

    def _release_if_hung(self) -> None:
        left = self._active_at + HANG_SECONDS - self._loop.time()
        if left <= 0 and self._is_held:
            self._is_held = False
            self._slots.release()
        self._timer = self._loop.call_later(left if left > 0 else HANG_SECONDS, self._release_if_hung)


class Attempt(NamedTuple):
    excerpt: Excerpt
    uploader: Uploader | None

    async def abort(self) -> None:
        if self.uploader is not None:
            await self.uploader.abort()


class LogAttempts:
    """The attempts to read one log. The longest counts: its excerpt, and what it uploaded."""

    def __init__(self, store: LogStore | None, place: LogPlace, excerpt_bytes: int, stall_seconds: float) -> None:
        self._store = store
        self._place = place
        self._excerpt_bytes = excerpt_bytes
        self._stall_seconds = stall_seconds
        self._best = self._current = Attempt(Excerpt(excerpt_bytes), None)

    async def begin(self) -> Attempt:
        """A new attempt; the previous one ended too early."""
        await self._settle()
        uploader = Uploader(self._store, self._place, stall_seconds=self._stall_seconds) if self._store else None
        self._current = Attempt(Excerpt(self._excerpt_bytes), uploader)
        return self._current

    async def _settle(self) -> None:
        """Keep the longer attempt, abort the upload of the other."""
        best, other = self._best, self._current
        if other is best:
            return
        if other.excerpt.size >= best.excerpt.size:
            best, other = other, best
        self._best = self._current = best
        await other.abort()

    async def discard(self) -> None:
        """The data of the last attempt was not a log."""
        await self.abort()
        self._best = self._current = Attempt(Excerpt(self._excerpt_bytes), None)

    async def abort(self) -> None:
        for attempt in {self._best, self._current}:
            await attempt.abort()

    async def end(self) -> Attempt:
        """The attempt that counts; no other follows. It has no upload without a store, and for an empty log."""
        await self._settle()
        if not self._best.excerpt.size:
            await self.discard()
        return self._best

    def log(self, reason: str | None) -> Log:
        """What the event says about the log, before it is stored; after `end`."""
        excerpt, source, instance = self._best.excerpt, self._place.source, self._place.instance
        if reason is not None and not excerpt.size:
            return replace(unavailable(reason, source).log, instance=instance)
        return Log(
            state="truncated" if reason else "complete",
            reason=reason,
            bytes=excerpt.size,
            source=source,
            sha256=excerpt.sha256,
            instance=instance,
        )
