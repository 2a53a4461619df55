"""Logs in a folder and in an S3 server: the same promises."""

import asyncio
import functools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from jobcast.logstore import LogStoreError, Stored, Uploader, probe
from jobcast.logstore.fetch import LogNotFound, read_object, read_object_async
from jobcast.logstore.objects import PART_BYTES, WIDE_UPLOADS, ObjectLogStore
from tests.conftest import eventually
from tests.logstore.conftest import BUCKET, S3Server, opened, place, store_log

SIZES = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 12_000_000]


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/logs"
    request.getfixturevalue("s3")
    return f"s3://{BUCKET}/{tmp_path.name}"


@functools.cache
def noise(size: int) -> bytes:
    """Random bytes."""
    return random.Random(size).randbytes(size)


def read(ref: str) -> bytes:
    return b"".join(read_object(ref))


@pytest.mark.parametrize("size", SIZES)
async def test_the_exact_bytes_come_back(url: str, size: int) -> None:
    data, store = noise(size), opened(url)
    stored = await store_log(store, place(), data)
    assert stored == Stored(f"{url}/{place().path}", size)
    assert read(stored.ref) == data
    assert b"".join([piece async for piece in read_object_async(stored.ref)]) == data
    await store.aclose()


@pytest.mark.parametrize("piece", [4099, PART_BYTES, 3 * PART_BYTES])
async def test_pieces_of_any_size_make_the_same_log(tmp_path: Path, piece: int) -> None:
    data, store = noise(12_000_000), opened(f"file://{tmp_path}")
    stored = await store_log(store, place(), data, piece)
    assert isinstance(stored, Stored) and read(stored.ref) == data
    await store.aclose()


@pytest.mark.parametrize(("fuller", "emptier"), [(1000, 0), (1000, 999), (6_000_000, 5_500_000)])
async def test_an_emptier_log_never_replaces_a_fuller_one(url: str, fuller: int, emptier: int) -> None:
    data, store = noise(fuller), opened(url)
    first = await store_log(store, place(), data)
    assert isinstance(first, Stored)
    assert await store_log(store, place(), data[:emptier]) == first
    assert read(first.ref) == data
    await store.aclose()


@pytest.mark.parametrize(("emptier", "fuller"), [(0, 1), (10, 6_000_000), (5_500_000, 6_000_000)])
async def test_a_fuller_log_replaces_an_emptier_one(url: str, emptier: int, fuller: int) -> None:
    data, store = noise(fuller), opened(url)
    await store_log(store, place(), data[:emptier])
    stored = await store_log(store, place(), data)
    assert isinstance(stored, Stored) and stored.bytes == fuller
    assert read(stored.ref) == data
    await store.aclose()


@pytest.mark.parametrize("size", [1000, 6_000_000])
async def test_replicas_that_store_the_same_log_at_once_all_succeed(url: str, size: int) -> None:
    data, stores = noise(size), [opened(url) for _ in range(4)]
    stored = await asyncio.gather(*(store_log(store, place(), data) for store in stores))
    assert stored == [Stored(f"{url}/{place().path}", size)] * 4
    assert read(f"{url}/{place().path}") == data
    for store in stores:
        await store.aclose()


async def test_instances_and_containers_have_objects_of_their_own(url: str) -> None:
    store = opened(url)
    places = [place(), place(instance=1), place("other"), place()._replace(container="sidecar")]
    stored = [await store_log(store, where, bytes([n])) for n, where in enumerate(places)]
    assert [read(one.ref) for one in stored if isinstance(one, Stored)] == [b"\0", b"\1", b"\2", b"\3"]
    await store.aclose()


@pytest.mark.parametrize("how", ["abort", "cancel"])
async def test_nothing_partial_is_visible_or_left(
    url: str, how: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = opened(url)
    uploader = Uploader(store, place(), stall_seconds=30)

    async def feed() -> None:
        try:
            for _ in range(3):
                await uploader.feed(noise(PART_BYTES))
            if how == "cancel":
                await asyncio.Event().wait()
        finally:
            await uploader.abort()

    task = asyncio.create_task(feed())
    sent = _parts_of(url, tmp_path, request)
    await eventually(lambda: sent() or task.done())
    if how == "cancel":
        task.cancel()
    await asyncio.wait([task])
    await store.aclose()
    with pytest.raises(LogNotFound, match="is not there"):
        read(f"{url}/{place().path}")
    await eventually(lambda: not sent())


def _parts_of(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], list[str]]:
    """The parts of incomplete uploads."""
    if url.startswith("file"):
        return lambda: [str(path) for path in tmp_path.rglob("*") if path.is_file()]
    server: S3Server = request.getfixturevalue("s3")

    def uploads() -> list[str]:
        published = server.ask("GET", f"/{BUCKET}?uploads").decode()
        return [part for part in published.split("<Upload>")[1:] if tmp_path.name in part]

    return uploads


async def test_many_logs_at_once_are_all_stored_whole(url: str) -> None:
    store = opened(url)
    data = [noise(PART_BYTES + 1000 + n) for n in range(5)]
    stored = await asyncio.gather(*(store_log(store, place(f"pod-{n}"), one) for n, one in enumerate(data)))
    assert [read(one.ref) for one in stored if isinstance(one, Stored)] == data
    assert isinstance(store, ObjectLogStore) and not store.wide
    await store.aclose()


async def test_a_store_that_can_be_used_passes_its_probe_and_nothing_is_left(url: str, tmp_path: Path) -> None:
    await probe(url)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_reading_a_log_that_was_never_stored_says_so(url: str) -> None:
    ref = f"{url}/{place('missing').path}"
    with pytest.raises(LogNotFound, match="is not there"):
        read(ref)
    with pytest.raises(LogNotFound, match="is not there"):
        [piece async for piece in read_object_async(ref)]


async def test_a_reader_that_stops_early_leaves_nothing_running(url: str) -> None:
    store = opened(url)
    stored = await store_log(store, place(), noise(12_000_000))
    assert isinstance(stored, Stored)
    pieces = read_object_async(stored.ref)
    async for piece in pieces:
        assert len(piece) <= PART_BYTES  # in pieces, not whole
        break
    await pieces.aclose()
    await store.aclose()


async def test_a_folder_that_is_full_or_forbidden_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = opened(f"file://{tmp_path}/file")
    for data in (b"abc", noise(12_000_000)):
        error = await store_log(store, place(), data)
        assert isinstance(error, LogStoreError) and error.reason == "store-refused"
        assert "Not a directory" in str(error) and "\n" not in str(error)
    await store.aclose()


async def test_a_folder_without_hard_links_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore
    from obstore.exceptions import GenericError

    put = obstore.put_async

    async def put_async(*arguments: object, mode: object, **options: object) -> object:
        if mode == "create":
            raise GenericError("Unable to link: Operation not supported (os error 95)")
        return await put(*arguments, mode=mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(obstore, "put_async", put_async)
    store = opened(f"file://{tmp_path}")
    stored = await store_log(store, place(), b"abc")
    assert isinstance(stored, Stored) and read(stored.ref) == b"abc"
    await store.aclose()


class FakeWriter:
    """In obstore's place: a part is in flight until the test releases it, and the next one waits for that."""

    def __init__(self) -> None:
        self.way = asyncio.Semaphore(0)
        self.in_flight: set[asyncio.Task[bool]] = set()

    async def write(self, part: bytes) -> None:
        await asyncio.gather(*self.in_flight)
        self.in_flight = {asyncio.create_task(self.way.acquire())} if part else set()


async def test_two_uploads_fill_a_part_while_one_is_sent_and_the_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    monkeypatch.setattr(obstore, "open_writer_async", lambda *_, **__: FakeWriter())
    store = ObjectLogStore(f"file://{tmp_path}")
    uploads = [store.new_upload(place(f"pod-{n}")) for n in range(4)]
    full = b"x" * (PART_BYTES + 1)
    for upload in uploads[:WIDE_UPLOADS]:
        await upload.write(full)  # returns, with the first part in flight
    waiting = [asyncio.create_task(upload.write(full)) for upload in uploads[WIDE_UPLOADS:]]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in waiting)
    for upload in uploads:
        assert isinstance(upload._writer, FakeWriter)
        upload._writer.way.release()
    await asyncio.gather(*waiting)


def test_an_upload_costs_nothing_until_the_first_write(tmp_path: Path) -> None:
    opened(f"file://{tmp_path}/logs").new_upload(place())
    assert not (tmp_path / "logs").exists()
