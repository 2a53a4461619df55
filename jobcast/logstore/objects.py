"""Logs in an object store or a folder: one object a log, raw, visible when it is whole.

A log of up to one part is put at once, and only where there is none or a shorter one. A longer one is sent in parts as it
comes; before the parts are joined it is compared with what is there.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from jobcast.logstore.base import UNAVAILABLE, ArchiveError, Kept, LogPlace
from jobcast.logstore.circuit import Outage
from jobcast.logstore.urls import StoreUrl, errors, explain, open_store, parse

if TYPE_CHECKING:
    from obstore import AsyncWritableFile, ObjectMeta
    from obstore.store import ObjectStore

PART_BYTES = 5 * 1024 * 1024
"""The smallest part that S3 takes; with at most 10,000 of them a log may have 48 GiB."""
WIDE_UPLOADS = 2
"""So many logs at a time fill a part while the one before is sent, and hold 10 MiB; the others wait for it, and hold 5."""
TIDY_SECONDS = 5.0
"""For taking back the parts of uploads that were given up. What a store keeps of them after that, a lifecycle rule removes."""
SETTLE_SECONDS = 0.05
"""obstore's threads let go of our buffers and futures a moment after they were answered. An interpreter that ends just then
is aborted (SIGABRT; PyO3/pyo3-async-runtimes#40), so closing waits for that moment."""
TRIES = 3
"""For a put that somebody else's came before."""


class ObjectArchive:
    """The store that a URL leads to. Raises ValueError and ImportError as `open_store` does."""

    def __init__(self, url: str) -> None:
        # obstore starts a thread for each core of the node; for a few requests at a time two are plenty.
        os.environ.setdefault("TOKIO_WORKER_THREADS", "2")
        self.url = parse(url)
        self.store = open_store(self.url)
        self.outage = Outage()
        self.wide: WeakSet[ObjectSink] = WeakSet()
        self._tidying: set[asyncio.Task[None]] = set()

    def sink(self, place: LogPlace) -> "ObjectSink":
        return ObjectSink(self, StoreUrl(self.url.root, f"{self.url.path}/{place.path}".lstrip("/")))

    async def aclose(self) -> None:
        if self._tidying:
            _, late = await asyncio.wait(self._tidying, timeout=TIDY_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await asyncio.sleep(SETTLE_SECONDS)

    def tidy(self, writer: "AsyncWritableFile") -> None:
        """Take back what was sent of an upload; nobody waits for it."""
        task = asyncio.create_task(_take_back(writer), name="archive tidy")
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)


class ObjectSink:
    """One log on its way into one object."""

    def __init__(self, archive: ObjectArchive, url: StoreUrl) -> None:
        self._archive = archive
        self._url = url
        self._part = bytearray()
        self._size = 0
        self._writer: AsyncWritableFile | None = None
        self._has_failed = False
        """Why is known to the outage, or came from it."""

    async def write(self, chunk: bytes) -> None:
        if not self._size and (error := self._archive.outage.away()) is not None:
            self._has_failed = True
            raise error  # now, not when there is a part to send: what nobody will take need not be held
        self._size += len(chunk)
        rest = memoryview(chunk)
        while rest:
            if len(self._part) == PART_BYTES:
                await self._send_part()
            room = PART_BYTES - len(self._part)
            self._part += rest[:room]
            rest = rest[room:]

    async def commit(self) -> Kept:
        with self._explained():
            if self._writer is None:
                size = await _put(self._archive.store, self._url, self._part, self._size)
            else:
                size = await self._join(self._writer)
        self._forget()
        return Kept(self._url.text, size)

    async def abort(self, because: ArchiveError | None = None) -> None:
        if because is not None and not self._has_failed:
            self._archive.outage.note(because)
        self._forget()

    async def _send_part(self) -> None:
        part, self._part = self._part, bytearray()
        archive = self._archive
        with self._explained():
            if self._writer is None:
                from obstore import open_writer_async

                self._writer = open_writer_async(
                    archive.store, self._url.path, buffer_size=PART_BYTES, max_concurrency=1
                )
                if len(archive.wide) < WIDE_UPLOADS:
                    archive.wide.add(self)
            await self._writer.write(part)  # waits until the one before is sent
            if self not in archive.wide:
                await self._writer.write(b"")  # and this until this one is

    async def _join(self, writer: "AsyncWritableFile") -> int:
        kept = await _head(self._archive.store, self._url.path)
        if kept is not None and kept["size"] >= self._size:
            return kept["size"]
        await writer.write(self._part)
        await writer.close()
        self._writer = None
        return self._size

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        outage = self._archive.outage
        try:
            if self._writer is None:  # one that is under way is not to suffer from another's bad luck
                outage.check()
            with outage.asking():
                yield
        except ArchiveError:
            self._has_failed = True
            raise
        except errors() as error:
            self._has_failed = True
            failure = explain(error, self._archive.url)
            outage.note(failure)
            raise failure from None  # what obstore raises may show signed URLs
        outage.note(None)

    def _forget(self) -> None:
        self._part = bytearray()
        self._archive.wide.discard(self)
        writer, self._writer = self._writer, None
        if writer is not None:
            self._archive.tidy(writer)


async def _put(store: "ObjectStore", url: StoreUrl, data: bytearray, size: int) -> int:
    """Put it where there is none or a shorter one; returns the size of what is there then."""
    import obstore
    from obstore.exceptions import AlreadyExistsError, GenericError, NotSupportedError, PreconditionError

    for _ in range(TRIES):
        # Looked at first, because some stores do not know conditions and ignore them.
        kept = await _head(store, url.path)
        if kept is not None and kept["size"] >= size:
            return kept["size"]
        mode: Any = "create" if kept is None else _still(kept)
        try:
            await obstore.put_async(store, url.path, data, mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            continue
        except (NotImplementedError, NotSupportedError, GenericError) as error:
            # A folder cannot replace on a condition, and create only where its file system has hard links.
            if url.scheme != "file" and isinstance(error, GenericError):
                raise
            await obstore.put_async(store, url.path, data, mode="overwrite", use_multipart=False)
        return size
    raise ArchiveError(UNAVAILABLE, f"{url.text}: what is kept there changes, or may not be looked at")


def _still(kept: "ObjectMeta") -> dict[str, str]:
    """The condition that it has not changed; what a store does not have (a version, or an ETag) must be left out."""
    return {name: mark for name, mark in (("e_tag", kept["e_tag"]), ("version", kept["version"])) if mark is not None}


async def _head(store: "ObjectStore", path: str) -> "ObjectMeta | None":
    """What is kept; None also when nobody may publish us, then the put's own condition has to do."""
    import obstore
    from obstore.exceptions import PermissionDeniedError

    try:
        return await obstore.head_async(store, path)
    except (FileNotFoundError, PermissionDeniedError):
        return None


async def _take_back(writer: "AsyncWritableFile") -> None:
    # A context that ends with an exception is how obstore is published to abort.
    with contextlib.suppress(Exception):
        await writer.__aexit__(ArchiveError, None, None)
