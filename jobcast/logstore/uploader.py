"""Sends one log to a store without delaying its reader.

feed ──▶ a queue of 512 KiB ──▶ pump ──▶ Upload.write
                              └ gives the store up when it accepts nothing for `stall_seconds`
"""

import asyncio
import contextlib
from collections import deque

from jobcast.logstore.base import UNAVAILABLE, LogPlace, LogStore, LogStoreError, Stored

STALL_SECONDS = 2.0
"""The longest that the reader waits for a store without progress: an event waits for the reader."""
FINISH_SECONDS = 10.0
"""The longest that the end of an upload may take: a part of 5 MiB, and the request that joins the parts."""
QUEUE_BYTES = 512 * 1024
"""Lets the reader and the store work at the same time; sixteen uploads need 8 MiB. One chunk may exceed it."""


class Uploader:
    """For one task: feed, then finish or abort.

    A store that fails, or accepts nothing for `stall_seconds` although there is data, is given up: `feed` returns at once
    from then on, and `finish` returns the reason. Any other exception of the upload is a bug, and `finish` raises it.
    """

    def __init__(
        self,
        store: LogStore,
        place: LogPlace,
        *,
        stall_seconds: float = STALL_SECONDS,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._upload = store.new_upload(place)
        self._place = place
        self._stall_seconds = stall_seconds
        self._chunks: deque[bytes] = deque()
        self._room = queue_bytes
        """Bytes that the queue still takes; less than 0 when it is full. The write under way counts as queued."""
        self._writing_since: float | None = None
        """On the loop's clock; None while there is nothing to write."""
        self._is_fed = False
        """The log is complete or given up."""
        self._error: LogStoreError | None = None
        self._changed = asyncio.Event()
        """The queue, for the one of reader and pump that waits: they never both do."""
        self._pump: asyncio.Task[None] | None = None

    async def feed(self, chunk: bytes) -> None:
        """Add to the log. Waits only while the queue is full and the store accepts data."""
        if not chunk or self._is_over:
            return
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=f"upload {self._place.source}")
        self._chunks.append(chunk)
        self._room -= len(chunk)
        self._changed.set()
        while self._room < 0 and not self._is_over:
            left = self._seconds_left()
            if left <= 0:
                self._error = LogStoreError(
                    UNAVAILABLE, f"the log store accepted no data for {self._stall_seconds:g} s"
                )
                self._pump.cancel()
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    async def finish(self, limit: float | None = FINISH_SECONDS) -> Stored | LogStoreError:
        """Complete the upload within `limit` seconds (None: no limit); otherwise return why the log is not stored."""
        self._is_fed = True
        self._changed.set()
        try:
            async with asyncio.timeout(limit):
                if self._pump is not None:
                    await asyncio.wait([self._pump])
                    self._pump.result()
                if self._error is None:
                    return await self._upload.commit()
        except LogStoreError as error:
            self._error = error
        except TimeoutError:
            self._error = self._error or LogStoreError(UNAVAILABLE, f"the log was not stored within {limit:g} s")
        finally:
            await self.abort()  # does nothing after a commit
        return self._error

    async def abort(self) -> None:
        """Give the upload up and drop its data. Does not wait for the store."""
        self._is_fed = True
        self._chunks.clear()
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            await asyncio.wait([self._pump])
        await self._upload.abort(self._error)

    @property
    def _is_over(self) -> bool:
        return self._is_fed or self._error is not None or (self._pump is not None and self._pump.done())

    def _seconds_left(self) -> float:
        """Until the write under way has stalled."""
        if self._writing_since is None:
            return self._stall_seconds
        return self._writing_since + self._stall_seconds - asyncio.get_running_loop().time()

    async def _run(self) -> None:
        try:
            await self._drain()
        except LogStoreError as error:
            self._error = error
        except asyncio.CancelledError:
            if self._error is None:
                raise
        finally:
            self._chunks.clear()
            self._changed.set()
            if self._error is not None:
                # Now and not when the log ends: the circuit breaker must know, and memory is freed.
                await self._upload.abort(self._error)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._writing_since = loop.time()
                await self._upload.write(chunk)
                self._room += len(chunk)
                self._changed.set()
            self._writing_since = None
            if self._is_fed:
                return
            self._changed.clear()
            await self._changed.wait()
