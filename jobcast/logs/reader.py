"""Reads a container's log, exactly and within limits, as soon as the container has ended.

The log is streamed: memory holds an excerpt, while the bytes go to the log store as they arrive. Reads run apart from
reconciling, so a read that hangs delays its own Job only. This room alone retries a read. A store that is slow or down
delays nothing: a log that it does not accept becomes a pending upload for the sweep.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from jobcast.event import Log
from jobcast.jobs.facts import LogRead
from jobcast.logs.index import LogIndex
from jobcast.logs.proof import ROTATED, Instance, Wanted, read_until_proved
from jobcast.logs.read import LogBody, LogSource, ReadSlot, within
from jobcast.logs.rotation import Key, Rotation
from jobcast.logstore.base import UNAVAILABLE, LogPlace, LogStore, LogStoreError, Stored
from jobcast.logstore.uploader import FINISH_SECONDS, STALL_SECONDS
from jobcast.redis.batcher import LedgerError

CACHED_BYTES = 64 * 1024 * 1024
"""Excerpts held for Jobs that are not published yet; the oldest are dropped first, and read again when they are needed."""
LONGEST_READ_SECONDS = 300.0
"""A read is given up after this time, whatever the log's size: the kubelet sends 50 MB/s and more."""
STORE_SECONDS = 2.0
"""The longest that an event waits for the log store after the log is read. A log stored later is in the record only."""
MAX_SLOW_UPLOADS = 16
"""Logs that may wait for a slow store at the same time, after their events are published: each holds up to 6 MB."""
PENDING_UPLOAD_SECONDS = 60.0
"""The patience with a store when only the log itself waits for it."""
AHEAD_SHARE = 4
"""The logs that are read while their containers run: one for so many slots, because each holds up to 5 MB for the log store."""
UNPROVED = "unproved"
"""`log.reason`: the answer ended, but nothing proves that the log ends there."""
UNFINISHED = (UNPROVED, "timeout")
"""The sweep reads such a log again."""

StoreTask = asyncio.Task[Stored | LogStoreError]
"""Finishes the upload of a log."""


@dataclass(slots=True)
class _LogState:
    """One log, while it is being read or its read is held."""

    task: asyncio.Task[None] | None = None
    """Reads and stores the log."""
    read: LogRead | None = None
    """What the event needs, once the read has ended."""
    body: LogBody | None = None
    """What was read so far, while the task reads."""
    instance: Instance = field(default_factory=Instance)
    is_storing: bool = False
    """The read has ended and waits for the store."""
    is_dropped: bool = False
    """No event waits for the task any more."""


class _Options(NamedTuple):
    excerpt_bytes: int
    store_seconds: float | None
    done: Callable[[str], None]
    seen: Callable[[Log], None]
    ahead: asyncio.Semaphore
    """The slots of reads that are not urgent."""


class LogReads:
    """The reads under way and the ended ones, by Pod, container and instance. Use as an async context manager.

    `done` is called with a Job's uid when a read has ended, `seen` with the log. `store_seconds` is the longest that an event
    waits for the store; None: as long as it takes.
    """

    def __init__(
        self,
        source: LogSource,
        *,
        excerpt_bytes: int,
        concurrency: int,
        done: Callable[[str], None],
        store: LogStore | None = None,
        index: LogIndex | None = None,
        rotation: Rotation | None = None,
        store_seconds: float | None = STORE_SECONDS,
        seen: Callable[[Log], None] = lambda log: None,
    ) -> None:
        self.rotation = rotation
        self._source = source
        self._store = store
        self._index = index
        self._options = _Options(
            excerpt_bytes, store_seconds, done, seen, asyncio.Semaphore(max(concurrency // AHEAD_SHARE, 1))
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._states: OrderedDict[Key, _LogState] = OrderedDict()
        """Those with a read in the order in which their reads ended."""
        self.under_way = 0
        """Reads that have not ended, including those that wait for the store."""
        self._cached_bytes = 0
        self._slow_uploads = 0

    async def __aenter__(self) -> "LogReads":
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [state.task for state in self._states.values() if state.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def has_store(self) -> bool:
        return self._store is not None

    def want(self, wanted: Wanted) -> LogRead | None:
        """The read, if it has ended. Otherwise it is under way now, and `done` is called at its end."""
        key = wanted.key
        state = self._states.setdefault(key, _LogState())
        if state.read is not None:
            return state.read
        state.instance.note(wanted)
        if state.task is None:
            name = f"log {wanted.place.namespace}/{wanted.place.source}"
            state.task = asyncio.create_task(self._read(wanted, state), name=name)
            state.task.add_done_callback(lambda _: self._end(key, state))
            self.under_way += 1
        return None

    def _end(self, key: Key, state: _LogState) -> None:
        self.under_way -= 1
        state.task = None
        if state.read is None:
            del self._states[key]

    def get(self, key: Key) -> LogRead | None:
        """The read, if it has ended."""
        state = self._states.get(key)
        return state.read if state is not None else None

    def get_part(self, key: Key, reason: str) -> LogRead | None:
        """What was read so far of a log that is being read; None if that is nothing. `reason` is why it is not waited for."""
        state = self._states.get(key)
        body = state.body if state is not None else None
        if body is None or not body.excerpt.size:
            return None
        log = body.log(UNPROVED if body.has_ended else reason)
        return LogRead(log, body.excerpt.text(), body.excerpt.is_cut)

    def is_storing(self, key: Key) -> bool:
        """Whether the read has ended and its event waits for the store. An event waits for a slow store only a short time."""
        state = self._states.get(key)
        return state is not None and state.is_storing

    def drop(self, key: Key) -> None:
        """Forget a read: its event is published. A read under way goes on if there is a store, but nothing waits for it."""
        if (state := self._states.get(key)) is None:
            return
        self._forget_read(key, state)
        if state.task is not None and not state.task.done():
            if self._store is None:
                state.task.cancel()
            else:
                state.is_dropped = True

    def _hold_read(self, key: Key, state: _LogState, read: LogRead) -> None:
        state.read = read
        self._states.move_to_end(key)
        self._cached_bytes += len(read.output)
        while self._cached_bytes > CACHED_BYTES:
            oldest_key, oldest = next((key, one) for key, one in self._states.items() if one.read is not None)
            if oldest is state:
                return
            self._forget_read(oldest_key, oldest)

    def _forget_read(self, key: Key, state: _LogState) -> None:
        if state.read is not None:
            self._cached_bytes -= len(state.read.output)
            state.read = None
            if state.task is None:
                del self._states[key]

    async def upload_pending(self, wanted: Wanted) -> LogStoreError | None:
        """Read a log again that is not in the store, or not whole. Returns why that is so still; None when the store accepted it,
        and when the log no longer exists. Raises LedgerError."""
        state = self._states.get(wanted.key, _LogState())
        state.instance.note(wanted)
        async with ReadSlot(self._slots) as slot:
            read, storing = await self._read_log(wanted, state, slot, PENDING_UPLOAD_SECONDS)
        if storing is not None:
            stored = await storing
            if isinstance(stored, LogStoreError):
                return stored
            if self._index is not None:
                await self._index.attach(wanted.place, wanted.eval_id, _with_stored(read.log, stored))
        return LogStoreError(read.log.reason, "the log is not whole yet") if read.log.reason in UNFINISHED else None

    async def _read(self, wanted: Wanted, state: _LogState) -> None:
        storing: StoreTask | None = None
        try:
            async with ReadSlot(self._slots, self._options.ahead, state.instance.is_urgent) as slot:
                read, storing = await self._read_log(wanted, state, slot)
                state.is_storing = True
                if storing is not None:
                    await asyncio.wait([storing], timeout=self._options.store_seconds)
                    if storing.done():
                        read, storing = await self._with_result(wanted, read, await storing), None
            state.is_storing = False
            if not state.is_dropped:
                self._hold_read(wanted.key, state, read if storing is None else _with_reason(read, UNAVAILABLE))
                self._options.seen(read.log)
                self._options.done(wanted.place.uid)
            if storing is not None:
                read = await self._with_result(wanted, read, await self._wait_for_slow_store(storing))
            if self._index is not None and read.log.ref is not None:
                await self._index.attach(wanted.place, wanted.eval_id, read.log)
            if self._index is not None and self._store is not None and read.log.reason in UNFINISHED:
                await self._index.add_pending_upload(wanted.place, wanted.eval_id, wanted.pod_uid)
        except LedgerError:
            pass  # the record lacks the reference; the event has it
        finally:
            if storing is not None:
                storing.cancel()

    async def _read_log(
        self, wanted: Wanted, state: _LogState, slot: ReadSlot, patience: float | None = None
    ) -> tuple[LogRead, StoreTask | None]:
        """The read, and the task that finishes its upload, which may take long; None when there is nothing to store."""
        body = state.body = LogBody(
            self._source, self._store, wanted.place, self._options.excerpt_bytes, patience or STALL_SECONDS
        )
        try:
            async with within(LONGEST_READ_SECONDS, state.instance.is_urgent):
                reason = await read_until_proved(wanted, state.instance, body, slot)
        except TimeoutError:
            reason = UNPROVED if body.has_ended else "timeout"
        except BaseException:
            await body.abort()
            raise
        finally:
            state.body = None
        # From here on this read may wait for Redis. While Redis is down the next log is better not read into memory.
        slot.hold()
        uploader = await body.end()
        if reason is None and (body.has_gap or body.is_rotated or await self._is_rotated(wanted, body)):
            reason = ROTATED
        read = LogRead(body.log(reason), body.excerpt.text(), body.excerpt.is_cut)
        if uploader is None:
            return read, None
        limit = None if self._options.store_seconds is None else patience or FINISH_SECONDS
        return read, asyncio.create_task(uploader.finish(limit), name="store log")

    async def _with_result(self, wanted: Wanted, read: LogRead, stored: Stored | LogStoreError) -> LogRead:
        if not isinstance(stored, LogStoreError):
            return replace(read, log=_with_stored(read.log, stored))
        if self._index is not None:
            with suppress(LedgerError):
                await self._index.add_pending_upload(wanted.place, wanted.eval_id, wanted.pod_uid)
        return _with_reason(read, stored.reason)

    async def _wait_for_slow_store(self, storing: StoreTask) -> Stored | LogStoreError:
        """Each waiting upload holds a part of its log in memory, so the number is limited."""
        if self._slow_uploads >= MAX_SLOW_UPLOADS:
            storing.cancel()
            return LogStoreError(UNAVAILABLE, "too many logs wait for the log store")
        self._slow_uploads += 1
        try:
            return await storing
        finally:
            self._slow_uploads -= 1

    async def _is_rotated(self, wanted: Wanted, body: LogBody) -> bool:
        rotation = self.rotation
        return rotation is not None and await rotation.is_rotated(wanted.key, wanted.place, body.first_time)


def _with_stored(log: Log, stored: Stored) -> Log:
    if stored.bytes > log.bytes:  # an earlier read got more of it
        return replace(log, ref=stored.ref, bytes=stored.bytes, sha256=None)
    if stored.bytes < log.bytes and log.state == "complete":
        return replace(log, ref=stored.ref, state="truncated", reason="store-limit")
    return replace(log, ref=stored.ref)


def _with_reason(read: LogRead, reason: str) -> LogRead:
    return replace(read, log=replace(read.log, reason=read.log.reason or reason))
