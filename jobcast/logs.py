"""Reads a container's log, exactly and within limits, as soon as the container has ended.

The log goes through the process, not into it: what is kept is an excerpt and, where the store is Redis, the bytes up to
the store's limit until they are stored. Reads run apart from reconciling, so that one that hangs delays its own Job only;
this room retries a read within its time, nobody else does.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from jobcast.event import Log
from jobcast.excerpt import Excerpt, LogRead, unavailable
from jobcast.kube.errors import KubeError, NotFound, Throttled, Unauthorized, Unreachable
from jobcast.link import LedgerError

RETRY_SECONDS = (0.2, 2.0)
"""First and longest pause between tries: a kubelet that is busy answers within a second or two."""
KEPT_BYTES = 64 * 1024 * 1024
"""Excerpts kept for Jobs that are not told yet; the oldest go first and are read again when they are needed."""
LONGEST_READ_SECONDS = 300.0
"""A log of any size that is still not read after this is given up: the kubelet sends 50 MB/s and more."""
GONE_MARK = b"unable to retrieve container logs for "
"""The kubelet's answer, with status 200, for a container whose log is no longer on the node."""


class LogSource(Protocol):
    """Where logs come from: jobcast.kube.Api, or a fake."""

    def log(
        self, namespace: str, pod: str, container: str, *, previous: bool = False, follow: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


Key = tuple[str, str, int]
"""Pod uid, container, and how often it was restarted before."""
Store = Callable[[str, str, str, bytes], Awaitable[str]]
"""Keeps a log's bytes (job uid, pod, container, bytes) and returns where they are, for `log.ref`."""


class LogReads:
    """The reads under way and the ones that ended, by Pod and container. Use as an async context manager."""

    def __init__(
        self,
        source: LogSource,
        *,
        excerpt_bytes: int,
        concurrency: int,
        done: Callable[[str], None],
        store: Store | None = None,
        store_limit: int = 0,
        seen: Callable[[Log], None] = lambda log: None,
    ) -> None:
        self._source = source
        self._excerpt_bytes = excerpt_bytes
        self._slots = asyncio.Semaphore(concurrency)
        self._done = done
        self._store = store
        self._store_limit = store_limit
        self._seen = seen
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._reads: OrderedDict[Key, LogRead] = OrderedDict()
        self._kept = 0

    async def __aenter__(self) -> "LogReads":
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def want(
        self,
        job: str,
        namespace: str,
        pod: str,
        pod_uid: str,
        container: str,
        *,
        instance: int = 0,
        follow: bool = False,
    ) -> LogRead | None:
        """The read, if it has ended. Otherwise it is under way now, and `done(job)` is called at its end.

        `instance` is how often the container was restarted before: each has a log of its own.
        `follow` is for a container that is being killed: what it has said so far may be gone once it has ended.
        """
        key = (pod_uid, container, instance)
        if (read := self._reads.get(key)) is not None:
            return read
        if key not in self._tasks:
            work = self._read(key, job, Place(namespace, pod, container, follow))
            task = asyncio.create_task(work, name=f"log {namespace}/{pod}/{container}")
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return None

    def drop(self, pod_uid: str, container: str, *, instance: int = 0) -> None:
        """Forget a read that was told, or one that nobody waits for any more; one under way is given up."""
        key = (pod_uid, container, instance)
        if (read := self._reads.pop(key, None)) is not None:
            self._kept -= len(read.output)
        if (task := self._tasks.get(key)) is not None:
            task.cancel()

    async def _read(self, key: Key, job: str, place: "Place") -> None:
        whole = bytearray()
        async with self._slots:
            try:
                async with asyncio.timeout(LONGEST_READ_SECONDS):
                    read = await self._try_until_read(place, whole)
            except TimeoutError:
                read = unavailable("timeout", place.source)
            # Out of that time: what was read is not lost because Redis is away.
            if self._store is not None and whole and read.log.state == "complete":
                read = await _stored(self._store, job, place, read, bytes(whole))
        self._reads[key] = read
        self._kept += len(read.output)
        while self._kept > KEPT_BYTES and len(self._reads) > 1:
            _, oldest = self._reads.popitem(last=False)
            self._kept -= len(oldest.output)
        self._seen(read.log)
        self._done(job)

    async def _try_until_read(self, place: "Place", whole: bytearray) -> LogRead:
        pause, longest = RETRY_SECONDS
        best = Excerpt(self._excerpt_bytes)
        was_refused = False
        while True:
            excerpt = Excerpt(self._excerpt_bytes)
            try:
                return await self._read_once(place, excerpt, whole)
            except NotFound:
                # A read that was cut is worth more than none: the Pod went while we read.
                return _partial(best, "pod-gone", place.source)
            except (Throttled, Unreachable) as error:
                best = excerpt if excerpt.size > best.size else best
                wait = max(error.retry_after or 0.0, pause * random.uniform(0.5, 1))  # noqa: S311
                pause = min(pause * 2, longest)
                await asyncio.sleep(wait)
            except KubeError as error:
                if isinstance(error, Unauthorized) and not was_refused:
                    was_refused = True  # the credentials have been read anew meanwhile
                    continue
                # 400: the API server says that the container waits to start. Anything else refuses us.
                return _partial(best, "never-started" if error.code == 400 else "refused", place.source)

    async def _read_once(self, place: "Place", excerpt: Excerpt, whole: bytearray) -> LogRead:
        whole.clear()
        async with self._source.log(place.namespace, place.pod, place.container, follow=place.follow) as chunks:
            async for chunk in chunks:
                excerpt.feed(chunk)
                if self._store is not None and len(whole) < self._store_limit:
                    whole += chunk[: self._store_limit - len(whole)]
        if excerpt.size < 512 and excerpt.text().encode().startswith(GONE_MARK):
            return unavailable("container-gone", place.source)
        return _read(excerpt, None, place.source)


class Place(NamedTuple):
    """Which log."""

    namespace: str
    pod: str
    container: str
    follow: bool

    @property
    def source(self) -> str:
        return f"{self.pod}/{self.container}"


async def _stored(store: Store, job: str, place: Place, read: LogRead, whole: bytes) -> LogRead:
    try:
        log = replace(read.log, ref=await store(job, place.pod, place.container, whole))
    except LedgerError:
        # The excerpt is worth telling without it.
        return replace(read, log=replace(read.log, reason="store-refused"))
    if len(whole) < log.bytes:
        log = replace(log, state="truncated", reason="store-limit")
    return replace(read, log=log)


def _partial(excerpt: Excerpt, reason: str, source: str) -> LogRead:
    return _read(excerpt, reason, source) if excerpt.size else unavailable(reason, source)


def _read(excerpt: Excerpt, reason: str | None, source: str) -> LogRead:
    log = Log(
        state="truncated" if reason else "complete",
        reason=reason,
        bytes=excerpt.size,
        source=source,
        sha256=excerpt.sha256,
    )
    return LogRead(log, excerpt.text(), excerpt.is_cut)
