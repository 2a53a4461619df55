"""Logs in an object store or a folder: one object a log, not compressed, visible only when it is whole.

A log of at most one part is put in one request, and replaces only a shorter log. A longer log is sent in parts as it is
read; before the parts are joined, its size is compared with that of the object that is there.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from jobcast.logstore.base import UNAVAILABLE, LogPlace, LogStoreError, Stored
from jobcast.logstore.circuit import CircuitBreaker
from jobcast.logstore.urls import StoreUrl, errors, explain, open_store, parse

if TYPE_CHECKING:
    from obstore import AsyncWritableFile, ObjectMeta
    from obstore.store import ObjectStore

PART_BYTES = 5 * 1024 * 1024
"""The smallest part that S3 accepts; 10,000 parts, its maximum, make a log of 48 GiB."""
WIDE_UPLOADS = 2
"""So many logs at a time fill a part while the previous one is sent, and hold 10 MiB; the others wait and hold 5 MiB."""
CLEAN_UP_SECONDS = 5.0
"""For removing the parts of aborted uploads at the end. A lifecycle rule of the store removes those that are left."""
SETTLE_SECONDS = 0.05
"""obstore's threads release our buffers and futures a moment after a request ends. An interpreter that ends in that moment
is aborted (SIGABRT; PyO3/pyo3-async-runtimes#40), so closing waits for it to pass."""
PUT_ATTEMPTS = 3
"""For a put that fails because another writer changed the object first."""


class ObjectLogStore:
    """The store behind a URL. Raises ValueError and ImportError as `open_store` does."""

    def __init__(self, url: str) -> None:
        # By default obstore starts a thread for each core of the node; two are enough for a few requests at a time.
        os.environ.setdefault("TOKIO_WORKER_THREADS", "2")
        self.url = parse(url)
        self.store = open_store(self.url)
        self.circuit = CircuitBreaker()
        self.wide: WeakSet[ObjectUpload] = WeakSet()
        self._cleaning: set[asyncio.Task[None]] = set()

    def new_upload(self, place: LogPlace) -> "ObjectUpload":
        return ObjectUpload(self, StoreUrl(self.url.root, f"{self.url.path}/{place.path}".lstrip("/")))

    async def aclose(self) -> None:
        if self._cleaning:
            _, late = await asyncio.wait(self._cleaning, timeout=CLEAN_UP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await asyncio.sleep(SETTLE_SECONDS)

    def discard_parts(self, writer: "AsyncWritableFile") -> None:
        """Remove the parts of an upload in the background."""
        task = asyncio.create_task(_abort_writer(writer), name="log store clean-up")
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)


class ObjectUpload:
    """One log on its way into one object."""

    def __init__(self, store: ObjectLogStore, url: StoreUrl) -> None:
        self._store = store
        self._url = url
        self._part = bytearray()
        self._size = 0
        self._writer: AsyncWritableFile | None = None
        self._has_failed = False
        """The circuit breaker knows why, or is the reason."""

    async def write(self, chunk: bytes) -> None:
        if not self._size and (error := self._store.circuit.rejection()) is not None:
            self._has_failed = True
            raise error  # before the first part is full: bytes that cannot be sent need not be held
        self._size += len(chunk)
        rest = memoryview(chunk)
        while rest:
            if len(self._part) == PART_BYTES:
                await self._send_part()
            room = PART_BYTES - len(self._part)
            self._part += rest[:room]
            rest = rest[room:]

    async def commit(self) -> Stored:
        with self._translated_errors():
            if self._writer is None:
                size = await _put(self._store.store, self._url, self._part, self._size)
            else:
                size = await self._join(self._writer)
        self._clear()
        return Stored(self._url.text, size)

    async def abort(self, because: LogStoreError | None = None) -> None:
        if because is not None and not self._has_failed:
            self._store.circuit.record(because)
        self._clear()

    async def _send_part(self) -> None:
        part, self._part = self._part, bytearray()
        store = self._store
        with self._translated_errors():
            if self._writer is None:
                from obstore import open_writer_async

                self._writer = open_writer_async(store.store, self._url.path, buffer_size=PART_BYTES, max_concurrency=1)
                if len(store.wide) < WIDE_UPLOADS:
                    store.wide.add(self)
            await self._writer.write(part)  # waits until the previous part is sent
            if self not in store.wide:
                await self._writer.write(b"")  # waits until this part is sent

    async def _join(self, writer: "AsyncWritableFile") -> int:
        found = await _head(self._store.store, self._url.path)
        if found is not None and found["size"] >= self._size:
            return found["size"]
        await writer.write(self._part)
        await writer.close()
        self._writer = None
        return self._size

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        circuit = self._store.circuit
        try:
            if self._writer is None:  # an upload under way continues when another one fails
                circuit.check()
            with circuit.request():
                yield
        except LogStoreError:
            self._has_failed = True
            raise
        except errors() as error:
            self._has_failed = True
            failure = explain(error, self._store.url)
            circuit.record(failure)
            raise failure from None  # obstore's errors may contain signed URLs
        circuit.record(None)

    def _clear(self) -> None:
        self._part = bytearray()
        self._store.wide.discard(self)
        writer, self._writer = self._writer, None
        if writer is not None:
            self._store.discard_parts(writer)


async def _put(store: "ObjectStore", url: StoreUrl, data: bytearray, size: int) -> int:
    """Put the log unless one at least as long is there; returns the size of the one that is there then."""
    import obstore
    from obstore.exceptions import AlreadyExistsError, GenericError, NotSupportedError, PreconditionError

    for _ in range(PUT_ATTEMPTS):
        # Looked up first, because some stores ignore conditions.
        found = await _head(store, url.path)
        if found is not None and found["size"] >= size:
            return found["size"]
        mode: Any = "create" if found is None else _unchanged(found)
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
    raise LogStoreError(UNAVAILABLE, f"{url.text}: another writer changes this object, or the account may not read it")


def _unchanged(found: "ObjectMeta") -> dict[str, str]:
    """The condition that the object has not changed; a version or ETag that the store does not have must be left out."""
    return {name: mark for name, mark in (("e_tag", found["e_tag"]), ("version", found["version"])) if mark is not None}


async def _head(store: "ObjectStore", path: str) -> "ObjectMeta | None":
    """The object that is there. None also when the account may not read it: the put's own condition protects it then."""
    import obstore
    from obstore.exceptions import PermissionDeniedError

    try:
        return await obstore.head_async(store, path)
    except (FileNotFoundError, PermissionDeniedError):
        return None


async def _abort_writer(writer: "AsyncWritableFile") -> None:
    # obstore aborts an upload when its context ends with an exception.
    with contextlib.suppress(Exception):
        await writer.__aexit__(LogStoreError, None, None)
