"""Whatever the store does, the uploader does not delay the reader of the log."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from jobcast.logstore import REFUSED, UNAVAILABLE, LogPlace, LogStoreError, Stored, Upload, Uploader
from tests.conftest import eventually
from tests.logstore.conftest import place

STALL = 0.2
Hook = Callable[[], Awaitable[None]]


async def nothing() -> None:
    return


async def for_ever() -> None:
    await asyncio.Event().wait()


class MemoryUpload:
    """Keeps the promises of an Upload; the hooks run in its calls, before they take effect."""

    def __init__(self, on_write: Hook, on_commit: Hook) -> None:
        self._on_write, self._on_commit = on_write, on_commit
        self.taken = bytearray()
        self.stored: bytes | None = None
        self.aborts: list[LogStoreError | None] = []

    async def write(self, chunk: bytes) -> None:
        assert not self.aborts, "written to after its abort"
        await self._on_write()
        self.taken += chunk

    async def commit(self) -> Stored:
        assert not self.aborts, "committed after its abort"
        await self._on_commit()
        self.stored = bytes(self.taken)
        return Stored("memory:log", len(self.stored))

    async def abort(self, because: LogStoreError | None = None) -> None:
        self.aborts.append(because)
        self.taken.clear()


class MemoryLogStore:
    def __init__(self, on_write: Hook = nothing, on_commit: Hook = nothing) -> None:
        self.only = MemoryUpload(on_write, on_commit)

    def new_upload(self, place: LogPlace) -> Upload:
        return self.only

    async def aclose(self) -> None:
        return


def failing_at(n: int, error: Exception) -> Hook:
    calls = iter(range(1, 1_000_000))

    async def hook() -> None:
        if next(calls) == n:
            raise error

    return hook


def uploader_of(store: MemoryLogStore, queue_bytes: int = 100, stall: float = STALL) -> Uploader:
    return Uploader(store, place(), stall_seconds=stall, queue_bytes=queue_bytes)


async def test_chunks_are_stored_in_order() -> None:
    store = MemoryLogStore(on_write=lambda: asyncio.sleep(0))
    uploader = uploader_of(store)
    chunks = [bytes([n]) * (n % 150) for n in range(200)]
    for chunk in chunks:
        await uploader.feed(chunk)
    assert await uploader.finish() == Stored("memory:log", sum(map(len, chunks)))
    assert store.only.stored == b"".join(chunks)


async def test_an_empty_log_is_stored() -> None:
    store = MemoryLogStore()
    assert await uploader_of(store).finish() == Stored("memory:log", 0)
    assert store.only.stored == b""


async def test_the_queue_is_bounded_while_the_store_is_slow() -> None:
    gate = asyncio.Semaphore(0)

    async def on_write() -> None:
        await gate.acquire()

    store = MemoryLogStore(on_write)
    uploader = uploader_of(store, stall=60)
    fed = 0

    async def feed() -> None:
        nonlocal fed
        for _ in range(50):
            await uploader.feed(b"x" * 40)
            fed += 40

    feeding = asyncio.create_task(feed())
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert fed - len(store.only.taken) <= 100 + 40  # the queue, and the chunk that waits to be queued
        gate.release()
    await feeding
    gate.release()
    assert await uploader.finish() == Stored("memory:log", 2000)


async def test_a_slow_store_is_not_given_up() -> None:
    store = MemoryLogStore(on_write=lambda: asyncio.sleep(STALL / 4))
    uploader = uploader_of(store)
    for _ in range(12):  # together longer than the stall
        await uploader.feed(b"x" * 60)
    assert await uploader.finish() == Stored("memory:log", 720)


async def test_a_stalled_store_is_given_up_and_feed_returns_at_once_from_then_on() -> None:
    store = MemoryLogStore(on_write=for_ever)
    uploader = uploader_of(store)
    async with asyncio.timeout(STALL * 20):
        await uploader.feed(b"x" * 50)
        await uploader.feed(b"x" * 51)  # full: this call waits until the store has stalled
    before = asyncio.get_running_loop().time()
    for _ in range(1000):
        await uploader.feed(b"x" * 1000)
    assert asyncio.get_running_loop().time() - before < STALL
    # The upload is aborted at once, not when the log ends.
    await eventually(lambda: store.only.aborts)
    error = await uploader.finish()
    assert isinstance(error, LogStoreError) and error.reason == UNAVAILABLE
    assert str(error) == "the log store accepted no data for 0.2 s"
    assert store.only.aborts[0] is error and store.only.stored is None


async def test_a_store_that_hangs_delays_nothing_while_the_queue_has_room() -> None:
    uploader = uploader_of(MemoryLogStore(on_write=for_ever), stall=60)
    async with asyncio.timeout(60):
        for _ in range(5):
            await uploader.feed(b"x" * 20)
        await uploader.abort()


@pytest.mark.parametrize("n", [1, 2, 7])
async def test_a_store_that_fails_at_a_write_is_given_up_with_its_reason(n: int) -> None:
    failure = LogStoreError(REFUSED, "no room")
    store = MemoryLogStore(failing_at(n, failure))
    uploader = uploader_of(store)
    for _ in range(20):
        await uploader.feed(b"x" * 30)
    assert await uploader.finish() is failure
    assert store.only.stored is None and store.only.aborts[0] is failure


async def test_an_error_of_the_last_write_is_not_missed() -> None:
    failure = LogStoreError(UNAVAILABLE, "gone")
    store = MemoryLogStore(failing_at(3, failure))
    uploader = uploader_of(store, queue_bytes=10_000)
    for _ in range(3):
        await uploader.feed(b"x")  # nothing is written yet: the pump has not run
    assert await uploader.finish() is failure


async def test_the_error_of_a_commit_is_returned_and_the_upload_aborted() -> None:
    failure = LogStoreError(UNAVAILABLE, "gone")
    store = MemoryLogStore(on_commit=failing_at(1, failure))
    uploader = uploader_of(store)
    await uploader.feed(b"abc")
    assert await uploader.finish() is failure
    assert store.only.aborts == [failure]


async def test_a_commit_that_hangs_is_given_up_within_the_limit() -> None:
    store = MemoryLogStore(on_commit=for_ever)
    uploader = uploader_of(store)
    await uploader.feed(b"abc")
    async with asyncio.timeout(60):
        error = await uploader.finish(limit=0.05)
    assert isinstance(error, LogStoreError) and error.reason == UNAVAILABLE
    assert str(error) == "the log was not stored within 0.05 s"
    assert store.only.aborts == [error]


async def test_a_write_that_hangs_at_the_end_is_given_up_within_the_limit() -> None:
    store = MemoryLogStore(on_write=for_ever)
    uploader = uploader_of(store)
    await uploader.feed(b"abc")
    async with asyncio.timeout(60):
        error = await uploader.finish(limit=0.05)
    assert isinstance(error, LogStoreError) and error.reason == UNAVAILABLE
    assert store.only.aborts and store.only.stored is None


async def test_without_a_limit_finish_waits_for_the_store() -> None:
    asked, gate = asyncio.Event(), asyncio.Event()

    async def on_commit() -> None:
        asked.set()
        await gate.wait()

    uploader = uploader_of(MemoryLogStore(on_commit=on_commit))
    finishing = asyncio.create_task(uploader.finish(limit=None))
    await asked.wait()
    gate.set()
    assert await finishing == Stored("memory:log", 0)


@pytest.mark.parametrize("where", ["feed", "write at the end", "commit"])
async def test_a_cancelled_upload_leaves_nothing_behind(where: str) -> None:
    asked = asyncio.Event()

    async def never() -> None:
        asked.set()
        await asyncio.Event().wait()

    store = MemoryLogStore(on_write=nothing if where == "commit" else never, on_commit=never)
    uploader = uploader_of(store, stall=60)

    async def work() -> None:
        try:
            await uploader.feed(b"x" * (1000 if where == "feed" else 10))
            await uploader.finish(limit=60)
        except asyncio.CancelledError:
            await uploader.abort()
            raise

    before = asyncio.all_tasks()
    task = asyncio.create_task(work())
    await asked.wait()
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert store.only.aborts and store.only.stored is None
    assert asyncio.all_tasks() == before


async def test_an_aborted_upload_accepts_nothing_and_leaves_no_task() -> None:
    store = MemoryLogStore(on_write=for_ever)
    uploader = uploader_of(store)
    before = asyncio.all_tasks()
    await uploader.feed(b"abc")
    await uploader.abort()
    await uploader.feed(b"def")
    assert asyncio.all_tasks() == before
    assert store.only.aborts == [None]


async def test_a_bug_in_an_upload_is_not_taken_for_a_store_that_is_down() -> None:
    uploader = uploader_of(MemoryLogStore(failing_at(2, ZeroDivisionError("a bug"))))
    for _ in range(20):
        await uploader.feed(b"x" * 60)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await uploader.finish()
