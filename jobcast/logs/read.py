"""The attempts to read one log: the slot they need, and which attempt counts."""

import asyncio

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


class LogAttempts:
    """The attempts to read one log. The longest counts: its excerpt, and what it uploaded."""

    def __init__(self, store: LogStore | None, place: LogPlace, excerpt_bytes: int, stall_seconds: float) -> None:
        self._store = store
        self._place = place
        self._excerpt_bytes = excerpt_bytes
        self._stall_seconds = stall_seconds
        self.best = self._excerpt = Excerpt(excerpt_bytes)
        self._best_uploader: Uploader | None = None
        self._uploader: Uploader | None = None

    async def begin(self) -> tuple[Excerpt, Uploader | None]:
        """A new attempt begins; the previous one ended too early."""
        await self._settle()
        self._excerpt = Excerpt(self._excerpt_bytes)
        if self._store is not None:
            self._uploader = Uploader(self._store, self._place, stall_seconds=self._stall_seconds)
        return self._excerpt, self._uploader

    async def _settle(self) -> None:
        """Keep the longer attempt, abort the upload of the other."""
        if self._excerpt is not self.best and self._excerpt.size >= self.best.size:
            self.best = self._excerpt
            self._best_uploader, self._uploader = self._uploader, self._best_uploader
        self._excerpt = self.best
        uploader, self._uploader = self._uploader, None
        if uploader is not None:
            await uploader.abort()

    async def discard(self) -> None:
        """The data of the last attempt was not a log."""
        await self.abort()
        self.best = self._excerpt = Excerpt(self._excerpt_bytes)

    async def abort(self) -> None:
        for uploader in (self._uploader, self._best_uploader):
            if uploader is not None:
                await uploader.abort()
        self._uploader = self._best_uploader = None

    def log(self, reason: str | None) -> Log:
        """What the event says about the log, before it is stored; after `end`."""
        if reason is not None and not self.best.size:
            return replace(unavailable(reason, self._place.source).log, instance=self._place.instance)
        return Log(
            state="truncated" if reason else "complete",
            reason=reason,
            bytes=self.best.size,
            source=self._place.source,
            sha256=self.best.sha256,
            instance=self._place.instance,
        )

    async def end(self) -> Uploader | None:
        """No attempt follows. Returns the upload to finish; None without a store, and for an empty log."""
        await self._settle()
        uploader, self._best_uploader = self._best_uploader, None
        if uploader is not None and not self.best.size:
            await uploader.abort()
            return None
        return uploader
