"""The reads of one log: their turn among others, and which of them counts."""

import asyncio

from msgspec.structs import replace

from jobcast.event import Log
from jobcast.jobs.facts import unavailable
from jobcast.logs.excerpt import Excerpt
from jobcast.logstore.base import Archive, LogPlace
from jobcast.logstore.uploader import Uploader

HANG_SECONDS = 2.0
"""A read that has brought nothing for so long lets others go on in its place: a node that answers nobody would take all of them."""


class Turn:
    """One of the places for reads at the same time. Whoever hangs gives it up, and takes one again when it can go on."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._has_place = False

    async def __aenter__(self) -> "Turn":
        await self._take()
        self._timer = self._loop.call_later(HANG_SECONDS, self._look)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._has_place:
            self._slots.release()

    async def go_on(self) -> None:
        """There is something to do."""
        self._moved = self._loop.time()
        if not self._has_place:
            await self._take()

    def stay(self) -> None:
        """The read is over, and keeps its place, if it has one, until it has left."""
        self._timer.cancel()

    async def _take(self) -> None:
        await self._slots.acquire()
        self._has_place = True
        self._moved = self._loop.time()

    def _look(self) -> None:
        left = self._moved + HANG_SECONDS - self._loop.time()
        if left <= 0 and self._has_place:
            self._has_place = False
            self._slots.release()
        self._timer = self._loop.call_later(left if left > 0 else HANG_SECONDS, self._look)


class LogAttempts:
    """The reads of one log, of which the longest counts: its excerpt, and what the store got of it."""

    def __init__(self, archive: Archive | None, place: LogPlace, excerpt_bytes: int, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self.best = Excerpt(excerpt_bytes)
        self._archive = archive
        self._place = place
        self._excerpt_bytes = excerpt_bytes
        self._best_keeper: Uploader | None = None
        self._excerpt = self.best
        self._keeper: Uploader | None = None

    async def begin(self) -> tuple[Excerpt, Uploader | None]:
        """A read begins anew; the one before it ended too early."""
        await self._settle()
        self._excerpt = Excerpt(self._excerpt_bytes)
        self._keeper = (
            Uploader(self._archive, self._place, stall_seconds=self._stall_seconds)
            if self._archive is not None
            else None
        )
        return self._excerpt, self._keeper

    async def _settle(self) -> None:
        """The longer one stays."""
        if self._excerpt is not self.best and self._excerpt.size >= self.best.size:
            self.best, self._excerpt = self._excerpt, self.best
            self._best_keeper, self._keeper = self._keeper, self._best_keeper
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.abort()
        self._excerpt = self.best

    async def forget(self) -> None:
        """What came was no log."""
        await self.abort()
        self.best = self._excerpt = Excerpt(self._excerpt_bytes)

    async def abort(self) -> None:
        for keeper in (self._keeper, self._best_keeper):
            if keeper is not None:
                await keeper.abort()
        self._keeper = self._best_keeper = None

    def log(self, reason: str | None) -> Log:
        """What is known of the log, before it is kept; after `end`."""
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
        """No read follows. Returns what is to be finished; None where there is no store, and for no log at all."""
        await self._settle()
        keeper, self._best_keeper = self._best_keeper, None
        if keeper is not None and not self.best.size:
            await keeper.abort()
            return None
        return keeper
