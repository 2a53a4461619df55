"""Feeds a log to a store without ever holding up the one who reads it.

feed ──▶ a queue of 512 KiB ──▶ pump ──▶ Sink.write
                              └ nothing taken for `stall_seconds`: given up
"""

import asyncio
import contextlib
from collections import deque

from jobcast.logstore.base import UNAVAILABLE, Archive, ArchiveError, Kept, LogPlace

STALL_SECONDS = 2.0
"""The longest that a store may make the reader wait at one stretch. It is waited for by an event."""
FINISH_SECONDS = 10.0
"""The longest that the end of a log may take: a part of 5 MiB, and the request that joins the parts."""
QUEUE_BYTES = 512 * 1024
"""Enough for the reader and the store to take turns, little enough for sixteen at once. One chunk may come on top."""


class Uploader:
    """One log on its way into the archive. For one task: feed, then finish or abort.

    A store that fails, or takes nothing for `stall_seconds` while there is something to take, is given up; from then on
    feeding is free, and `finish` says why there is nothing. What else a sink raises is a bug and comes out of `finish`.
    """

    def __init__(
        self,
        archive: Archive,
        place: LogPlace,
        *,
        stall_seconds: float = STALL_SECONDS,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._sink = archive.sink(place)
        self._place = place
        self._stall_seconds = stall_seconds
        self._queue_bytes = queue_bytes
        self._chunks: deque[bytes] = deque()
        self._queued = 0
        """Bytes fed and not yet taken, with those of the write under way."""
        self._writing_since: float | None = None
        """On the loop's clock; None while there is nothing to write."""
        self._is_fed = False
        """Nothing more will come."""
        self._failure: ArchiveError | None = None
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    async def feed(self, chunk: bytes) -> None:
        """Hand over some more of the log. Waits only while the queue is full and the store takes from it."""
        if not chunk or self._is_over:
            return
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=f"archive {self._place.source}")
        self._chunks.append(chunk)
        self._queued += len(chunk)
        self._more.set()
        while self._queued > self._queue_bytes and not self._is_over:
            left = self._patience()
            if left <= 0:
                self._failure = ArchiveError(UNAVAILABLE, f"the log store took nothing for {self._stall_seconds:g} s")
                self._pump.cancel()
                return
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._room.wait()

    async def finish(self, limit: float | None = FINISH_SECONDS) -> Kept | ArchiveError:
        """Keep what was fed, within `limit` seconds (None: however long it takes); else why it is not kept."""
        self._is_fed = True
        self._more.set()
        try:
            async with asyncio.timeout(limit):
                if self._pump is not None:
                    await asyncio.wait([self._pump])
                    self._pump.result()
                if self._failure is None:
                    return await self._sink.commit()
        except ArchiveError as error:
            self._failure = error
        except TimeoutError:
            self._failure = self._failure or ArchiveError(UNAVAILABLE, f"the log was not kept within {limit:g} s")
        finally:
            await self.abort()  # there is nothing to take back after a commit
        return self._failure

    async def abort(self) -> None:
        """Let it be, and forget what was fed. Does not wait for the store."""
        self._is_fed = True
        self._chunks.clear()
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            await asyncio.wait([self._pump])
        await self._sink.abort(self._failure)

    @property
    def _is_over(self) -> bool:
        return self._is_fed or self._failure is not None or (self._pump is not None and self._pump.done())

    def _patience(self) -> float:
        """Seconds that the store has left for the write under way."""
        if self._writing_since is None:
            return self._stall_seconds
        return self._writing_since + self._stall_seconds - asyncio.get_running_loop().time()

    async def _run(self) -> None:
        try:
            await self._drain()
        except ArchiveError as error:
            self._failure = error
        except asyncio.CancelledError:
            if self._failure is None:
                raise
        finally:
            self._chunks.clear()
            self._room.set()
            if self._failure is not None:
                # Now, not when the log ends: others are to know, and what it held is to be free.
                await self._sink.abort(self._failure)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._writing_since = loop.time()
                await self._sink.write(chunk)
                self._queued -= len(chunk)
                self._room.set()
            self._writing_since = None
            if self._is_fed:
                return
            self._more.clear()
            await self._more.wait()
