"""Logs in a folder and in an S3 server: the same promises."""

import asyncio
import functools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from jobcast.logstore import ArchiveError, Kept, Uploader, probe
from jobcast.logstore.fetch import LogNotFound, read_object, read_object_async
from jobcast.logstore.objects import PART_BYTES, WIDE_UPLOADS, ObjectArchive
from tests.archive.conftest import BUCKET, S3Server, keep, opened, place
from tests.conftest import eventually

SIZES = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 12_000_000]


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/logs"
    request.getfixturevalue("s3")
    return f"s3://{BUCKET}/{tmp_path.name}"


@functools.cache
def noise(size: int) -> bytes:
    """Not UTF-8, and different at every place."""
    return random.Random(size).randbytes(size)


def read(ref: str) -> bytes:
    return b"".join(read_object(ref))


@pytest.mark.parametrize("size", SIZES)
async def test_the_exact_bytes_come_back(store: str, size: int) -> None:
    data, archive = noise(size), opened(store)
    kept = await keep(archive, place(), data)
    assert kept == Kept(f"{store}/{place().path}", size)
    assert read(kept.ref) == data
    assert b"".join([piece async for piece in read_object_async(kept.ref)]) == data
    await archive.aclose()


@pytest.mark.parametrize("piece", [4099, PART_BYTES, 3 * PART_BYTES])
async def test_pieces_of_any_size_make_the_same_log(tmp_path: Path, piece: int) -> None:
    data, archive = noise(12_000_000), opened(f"file://{tmp_path}")
    kept = await keep(archive, place(), data, piece)
    assert isinstance(kept, Kept) and read(kept.ref) == data
    await archive.aclose()


@pytest.mark.parametrize(("fuller", "emptier"), [(1000, 0), (1000, 999), (6_000_000, 5_500_000)])
async def test_an_emptier_log_never_replaces_a_fuller_one(store: str, fuller: int, emptier: int) -> None:
    data, archive = noise(fuller), opened(store)
    first = await keep(archive, place(), data)
    assert isinstance(first, Kept)
    assert await keep(archive, place(), data[:emptier]) == first
    assert read(first.ref) == data
    await archive.aclose()


@pytest.mark.parametrize(("emptier", "fuller"), [(0, 1), (10, 6_000_000), (5_500_000, 6_000_000)])
async def test_a_fuller_log_replaces_an_emptier_one(store: str, emptier: int, fuller: int) -> None:
    data, archive = noise(fuller), opened(store)
    await keep(archive, place(), data[:emptier])
    kept = await keep(archive, place(), data)
    assert isinstance(kept, Kept) and kept.bytes == fuller
    assert read(kept.ref) == data
    await archive.aclose()


@pytest.mark.parametrize("size", [1000, 6_000_000])
async def test_replicas_that_keep_the_same_log_at_once_all_have_kept_it(store: str, size: int) -> None:
    data, archives = noise(size), [opened(store) for _ in range(4)]
    kept = await asyncio.gather(*(keep(archive, place(), data) for archive in archives))
    assert kept == [Kept(f"{store}/{place().path}", size)] * 4
    assert read(f"{store}/{place().path}") == data
    for archive in archives:
        await archive.aclose()


async def test_instances_and_containers_do_not_meet(store: str) -> None:
    archive = opened(store)
    places = [place(), place(instance=1), place("other"), place()._replace(container="sidecar")]
    kept = [await keep(archive, where, bytes([n])) for n, where in enumerate(places)]
    assert [read(one.ref) for one in kept if isinstance(one, Kept)] == [b"\0", b"\1", b"\2", b"\3"]
    await archive.aclose()


@pytest.mark.parametrize("how", ["abort", "cancel"])
async def test_nothing_partial_is_visible_or_left(
    store: str, how: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    archive = opened(store)
    keeper = Uploader(archive, place(), stall_seconds=30)

    async def feed() -> None:
        try:
            for _ in range(3):
                await keeper.feed(noise(PART_BYTES))
            if how == "cancel":
                await asyncio.Event().wait()
        finally:
            await keeper.abort()

    task = asyncio.create_task(feed())
    sent = _parts_of(store, tmp_path, request)
    await eventually(lambda: sent() or task.done())
    if how == "cancel":
        task.cancel()
    await asyncio.wait([task])
    await archive.aclose()
    with pytest.raises(LogNotFound, match="is not there"):
        read(f"{store}/{place().path}")
    await eventually(lambda: not sent())


def _parts_of(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], list[str]]:
    """What there is of uploads that are not complete."""
    if store.startswith("file"):
        return lambda: [str(path) for path in tmp_path.rglob("*") if path.is_file()]
    server: S3Server = request.getfixturevalue("s3")

    def uploads() -> list[str]:
        published = server.ask("GET", f"/{BUCKET}?uploads").decode()
        return [part for part in published.split("<Upload>")[1:] if tmp_path.name in part]

    return uploads


async def test_many_at_once_are_all_kept_whole(store: str) -> None:
    archive = opened(store)
    data = [noise(PART_BYTES + 1000 + n) for n in range(5)]
    kept = await asyncio.gather(*(keep(archive, place(f"pod-{n}"), one) for n, one in enumerate(data)))
    assert [read(one.ref) for one in kept if isinstance(one, Kept)] == data
    assert isinstance(archive, ObjectArchive) and not archive.wide
    await archive.aclose()


async def test_a_store_that_can_be_used_passes_its_probe_and_nothing_is_left(store: str, tmp_path: Path) -> None:
    await probe(store)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_asking_for_a_log_that_was_never_kept_says_so(store: str) -> None:
    ref = f"{store}/{place('nobody').path}"
    with pytest.raises(LogNotFound, match="is not there"):
        read(ref)
    with pytest.raises(LogNotFound, match="is not there"):
        [piece async for piece in read_object_async(ref)]


async def test_a_reader_that_loses_interest_leaves_nothing_running(store: str) -> None:
    archive = opened(store)
    kept = await keep(archive, place(), noise(12_000_000))
    assert isinstance(kept, Kept)
    pieces = read_object_async(kept.ref)
    async for piece in pieces:
        assert len(piece) <= PART_BYTES  # in pieces, not whole
        break
    await pieces.aclose()
    await archive.aclose()


async def test_a_folder_that_is_full_or_forbidden_refuses_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    archive = opened(f"file://{tmp_path}/file")
    for data in (b"abc", noise(12_000_000)):
        error = await keep(archive, place(), data)
        assert isinstance(error, ArchiveError) and error.reason == "store-refused"
        assert "Not a directory" in str(error) and "\n" not in str(error)
    await archive.aclose()


async def test_a_folder_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore
    from obstore.exceptions import GenericError

    put = obstore.put_async

    async def put_async(*arguments: object, mode: object, **options: object) -> object:
        if mode == "create":
            raise GenericError("Unable to link: Operation not supported (os error 95)")
        return await put(*arguments, mode=mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(obstore, "put_async", put_async)
    archive = opened(f"file://{tmp_path}")
    kept = await keep(archive, place(), b"abc")
    assert isinstance(kept, Kept) and read(kept.ref) == b"abc"
    await archive.aclose()


class FakeWriter:
    """In obstore's place: a part is in flight until it is let through, and the next one is not taken before."""

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
    archive = ObjectArchive(f"file://{tmp_path}")
    sinks = [archive.sink(place(f"pod-{n}")) for n in range(4)]
    full = b"x" * (PART_BYTES + 1)
    for sink in sinks[:WIDE_UPLOADS]:
        await sink.write(full)  # returns, with the first part in flight
    waiting = [asyncio.create_task(sink.write(full)) for sink in sinks[WIDE_UPLOADS:]]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in waiting)
    for sink in sinks:
        assert isinstance(sink._writer, FakeWriter)
        sink._writer.way.release()
    await asyncio.gather(*waiting)


def test_a_sink_costs_nothing_until_it_is_written_to(tmp_path: Path) -> None:
    opened(f"file://{tmp_path}/logs").sink(place())
    assert not (tmp_path / "logs").exists()
