"""Reads a container's log, exactly and within limits, as soon as the container has ended.

The log goes through the process, not into it: what is kept is an excerpt, while the bytes go to the log store as they come.
Reads run apart from reconciling, so that one that hangs delays its own Job only; this room retries a read within its time,
nobody else does. A store that is slow or down delays nothing: what it does not take is owed, and brought by the sweep.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from jobcast.event import Log
from jobcast.jobs.facts import LogRead
from jobcast.kube.errors import KubeError, NotFound, Throttled, Unauthorized, Unreachable
from jobcast.logs.index import LogIndex
from jobcast.logs.read import LogAttempts, Turn
from jobcast.logs.rotation import Key, Rotation
from jobcast.logstore.base import UNAVAILABLE, Archive, ArchiveError, Kept, LogPlace
from jobcast.logstore.uploader import FINISH_SECONDS, STALL_SECONDS
from jobcast.redis.batcher import LedgerError

RETRY_SECONDS = (0.2, 2.0)
"""First and longest pause between tries: a kubelet that is busy answers within a second or two."""
KEPT_BYTES = 64 * 1024 * 1024
"""Excerpts kept for Jobs that are not published yet; the oldest go first and are read again when they are needed."""
LONGEST_READ_SECONDS = 300.0
"""A log of any size that is still not read after this is given up: the kubelet sends 50 MB/s and more."""
STORE_SECONDS = 2.0
"""The longest that an event waits for the log store once the log is read; what the store takes later is in the record."""
MOST_SLOW = 16
"""Logs that may wait for a slow store at the same time, once their events have left: each holds up to 6 MB."""
BRING_SECONDS = 60.0
"""The patience with a store when nothing waits for it but the log itself."""
GONE_MARK = b"unable to retrieve container logs for "
"""The kubelet's answer, with status 200, for a container whose log is no longer on the node."""


class LogSource(Protocol):
    """Where logs come from: jobcast.kube.Api, or a fake."""

    def log(
        self, namespace: str, pod: str, container: str, *, previous: bool = False, follow: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


class Wanted(NamedTuple):
    """A log that is to be read."""

    place: LogPlace
    pod_uid: str
    eval_id: str
    follow: bool = False
    """The container is being killed: what it has said so far may be gone once it has ended."""
    previous: bool = False
    """It is the log of the instance before the container's last restart."""

    @property
    def key(self) -> Key:
        return (self.pod_uid, self.place.container, self.place.instance)


class LogReads:
    """The reads under way and the ones that ended, by Pod, container and instance. Use as an async context manager."""

    def __init__(
        self,
        source: LogSource,
        *,
        excerpt_bytes: int,
        concurrency: int,
        done: Callable[[str], None],
        archive: Archive | None = None,
        book: LogIndex | None = None,
        rotation: Rotation | None = None,
        store_seconds: float | None = STORE_SECONDS,
        seen: Callable[[Log], None] = lambda log: None,
    ) -> None:
        self.rotation = rotation
        self._source = source
        self._excerpt_bytes = excerpt_bytes
        self._slots = asyncio.Semaphore(concurrency)
        self._done = done
        self._archive = archive
        self._book = book
        self._store_seconds = store_seconds
        self._seen = seen
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._former: set[Key] = set()
        """Reads under way of instances that have been followed by another, be it since they were asked for: what waits for
        its turn, or is tried again, must not come back with the next one's log."""
        self._reads: OrderedDict[Key, LogRead] = OrderedDict()
        self._storing: set[Key] = set()
        """Reads that have ended and that wait for the store."""
        self._left: set[Key] = set()
        """Reads under way that no event waits for any more."""
        self._slow_count = 0
        """Logs that the store is slow to take."""
        self._kept = 0

    async def __aenter__(self) -> "LogReads":
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def has_store(self) -> bool:
        return self._archive is not None

    def want(self, wanted: Wanted) -> LogRead | None:
        """The read, if it has ended. Otherwise it is under way now, and `done(job uid)` is called at its end."""
        key = wanted.key
        if (read := self._reads.get(key)) is not None:
            return read
        if wanted.previous:
            self._former.add(key)
        if key not in self._tasks:
            task = asyncio.create_task(self._read(wanted), name=f"log {wanted.place.namespace}/{wanted.place.source}")
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._forget(key))
        return None

    def _forget(self, key: Key) -> None:
        self._tasks.pop(key, None)
        self._former.discard(key)

    @property
    def under_way(self) -> int:
        """Reads that have not ended, those that wait for the store among them."""
        return len(self._tasks)

    async def bring(self, wanted: Wanted) -> ArchiveError | None:
        """Read a log again for the store alone, which did not take it before, with more patience. Returns why it still does
        not; None when it did, and when there is no log to bring any more. Raises LedgerError."""
        async with Turn(self._slots) as turn:
            read, keeping = await self._read_and_keep(wanted, turn, BRING_SECONDS)
        if keeping is None:
            return None
        kept = await keeping
        if isinstance(kept, ArchiveError):
            return kept
        if self._book is not None:
            await self._book.attach(wanted.place, wanted.eval_id, _with(read.log, kept))
        return None

    def is_storing(self, key: Key) -> bool:
        """The read has ended and is held back until the store has taken it. Where the store is slow, it is not."""
        return key in self._storing

    def get(self, key: Key) -> LogRead | None:
        """The read, if it has ended."""
        return self._reads.get(key)

    def drop(self, key: Key) -> None:
        """Forget a read that was published. One under way goes on for the store's sake, if there is one, and is published nobody."""
        if (read := self._reads.pop(key, None)) is not None:
            self._kept -= len(read.output)
        # One that has just ended has nothing to forget any more: its callback is all that is left of it.
        if (task := self._tasks.get(key)) is not None and not task.done():
            if self._archive is None:
                task.cancel()
            else:
                self._left.add(key)

    async def _read(self, wanted: Wanted) -> None:
        key, place = wanted.key, wanted.place
        keeping: asyncio.Task[Kept | ArchiveError] | None = None
        try:
            async with Turn(self._slots) as turn:
                read, keeping = await self._read_and_keep(wanted, turn)
                # The event does not wait for a store that is slow.
                self._storing.add(key)
                if keeping is not None and await _is_done(keeping, self._store_seconds):
                    read, keeping = await self._with_kept(wanted, read, await keeping), None
            self._storing.discard(key)
            if key not in self._left:
                shown = read if keeping is None else LogRead(_slow(read.log), read.output, read.is_cut)
                self._keep(key, shown)
                self._seen(read.log)
                self._done(place.uid)
            if keeping is not None:
                read = await self._with_kept(wanted, read, await self._slowly(keeping))
            if self._book is not None and read.log.ref is not None:
                await self._book.attach(place, wanted.eval_id, read.log)
        except LedgerError:
            pass  # the record cannot be written; the event still says it
        finally:
            self._storing.discard(key)
            self._left.discard(key)
            if keeping is not None:
                keeping.cancel()

    def _keep(self, key: Key, read: LogRead) -> None:
        self._reads[key] = read
        self._kept += len(read.output)
        while self._kept > KEPT_BYTES and len(self._reads) > 1:
            _, oldest = self._reads.popitem(last=False)
            self._kept -= len(oldest.output)

    async def _read_and_keep(
        self, wanted: Wanted, turn: Turn, patience: float | None = None
    ) -> tuple[LogRead, "asyncio.Task[Kept | ArchiveError] | None"]:
        """The read, and the store's word on it, which may be long in coming; None where there is nothing to store."""
        tries = LogAttempts(self._archive, wanted.place, self._excerpt_bytes, patience or STALL_SECONDS)
        try:
            async with asyncio.timeout(LONGEST_READ_SECONDS):
                reason = await self._try_until_read(wanted, tries, turn)
        except TimeoutError:
            reason = "timeout"
        except BaseException:
            await tries.abort()
            raise
        # What is waited for now is Redis. While it is away the next log is better left where it is than read into memory.
        turn.stay()
        keeper = await tries.end()
        log = tries.log(reason)
        if log.state == "complete" and await self._is_rotated(wanted):
            log = replace(log, state="truncated", reason="rotated")
        read = LogRead(log, tries.best.text(), tries.best.is_cut)
        limit = None if self._store_seconds is None else patience or FINISH_SECONDS
        return read, asyncio.create_task(keeper.finish(limit), name="store log") if keeper is not None else None

    async def _with_kept(self, wanted: Wanted, read: LogRead, kept: Kept | ArchiveError) -> LogRead:
        log = read.log
        if isinstance(kept, ArchiveError):
            await self._owe(wanted)
            return LogRead(replace(log, reason=log.reason or kept.reason), read.output, read.is_cut)
        return LogRead(_with(log, kept), read.output, read.is_cut)

    async def _slowly(self, keeping: "asyncio.Task[Kept | ArchiveError]") -> Kept | ArchiveError:
        """The store's word, for which no event waits. Each of these holds a part of its log: those that are too many are owed."""
        if self._slow_count >= MOST_SLOW:
            keeping.cancel()
            return ArchiveError(UNAVAILABLE, "too many logs wait for it")
        self._slow_count += 1
        try:
            return await keeping
        finally:
            self._slow_count -= 1

    async def _owe(self, wanted: Wanted) -> None:
        if self._book is not None:
            with suppress(LedgerError):
                await self._book.owe(wanted.place, wanted.eval_id, wanted.pod_uid)

    async def _is_rotated(self, wanted: Wanted) -> bool:
        if self.rotation is None or wanted.follow:
            return False
        return await self.rotation.is_rotated(wanted.key, wanted.place, previous=self._is_former(wanted))

    def _is_former(self, wanted: Wanted) -> bool:
        return wanted.previous or wanted.key in self._former

    async def _try_until_read(self, wanted: Wanted, tries: LogAttempts, turn: Turn) -> str | None:
        """Returns why it is not all of the log; None when it is."""
        pause, longest = RETRY_SECONDS
        was_refused = False
        while True:
            try:
                return await self._read_once(wanted, tries, turn)
            except NotFound:
                # A read that was cut is worth more than none: the Pod went while we read.
                return "pod-gone"
            except (Throttled, Unreachable) as error:
                wait = max(error.retry_after or 0.0, pause * random.uniform(0.5, 1))  # noqa: S311
                pause = min(pause * 2, longest)
                await asyncio.sleep(wait)
            except KubeError as error:
                if isinstance(error, Unauthorized) and not was_refused:
                    was_refused = True  # the credentials have been read anew meanwhile
                    continue
                # 400: the API server says that the container waits to start. Anything else refuses us.
                return "never-started" if error.code == 400 else "refused"

    async def _read_once(self, wanted: Wanted, tries: LogAttempts, turn: Turn) -> str | None:
        place = wanted.place
        excerpt, keeper = await tries.begin()
        async with self._source.log(
            place.namespace, place.pod, place.container, previous=self._is_former(wanted), follow=wanted.follow
        ) as chunks:
            async for chunk in chunks:
                await turn.go_on()
                excerpt.feed(chunk)
                if keeper is not None:
                    await keeper.feed(chunk)
        if excerpt.size < 512 and excerpt.text().encode().startswith(GONE_MARK):
            await tries.forget()
            return "container-gone"
        return None


async def _is_done(task: "asyncio.Task[Kept | ArchiveError]", seconds: float | None) -> bool:
    done, _ = await asyncio.wait([task], timeout=seconds)
    return bool(done)


def _with(log: Log, kept: Kept) -> Log:
    """What is known of the log now that it is kept."""
    if kept.bytes > log.bytes:  # somebody had read more of it before
        return replace(log, ref=kept.ref, bytes=kept.bytes, sha256=None)
    if kept.bytes < log.bytes and log.state == "complete":
        return replace(log, ref=kept.ref, state="truncated", reason="store-limit")
    return replace(log, ref=kept.ref)


def _slow(log: Log) -> Log:
    return replace(log, reason=log.reason or "store-unavailable")
