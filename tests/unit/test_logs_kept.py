"""What becomes of a log's bytes: kept exactly, never in the way of an event, owed where the store does not take them."""

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from jobcast.kube import NotFound
from jobcast.logs import reader
from jobcast.logstore.base import REFUSED, UNAVAILABLE, ArchiveError, Kept, LogPlace
from tests.conftest import eventually
from tests.unit.test_logs import Answer, room, wanted, without_pauses


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    yield without_pauses(monkeypatch)


class MemoryArchive:
    """Keeps what is committed; refuses as many commits as it is given errors for, and waits while it is away."""

    def __init__(self, *errors: ArchiveError, limit: int = 10_000) -> None:
        self.errors = list(errors)
        self.limit = limit
        self.kept: dict[str, bytes] = {}
        self.is_back = asyncio.Event()
        self.is_back.set()

    def sink(self, place: LogPlace) -> "MemorySink":
        return MemorySink(self, place)

    async def aclose(self) -> None:
        pass


class MemorySink:
    def __init__(self, archive: MemoryArchive, place: LogPlace) -> None:
        self.archive, self.place, self.data = archive, place, b""

    async def write(self, chunk: bytes) -> None:
        self.data += chunk

    async def commit(self) -> Kept:
        await self.archive.is_back.wait()
        if self.archive.errors:
            raise self.archive.errors.pop(0)
        self.archive.kept[self.place.path] = self.data[: self.archive.limit]
        return Kept("ref", min(len(self.data), self.archive.limit))

    async def abort(self, because: ArchiveError | None = None) -> None:
        pass


PATH = "evals/eval-42/job/pod/main.0.log"


@pytest.mark.must_survive(20)
async def test_a_read_that_had_to_wait_is_of_the_instance_it_was_asked_for() -> None:
    let_go = asyncio.Event()
    async with room(concurrency=1, first=[let_go], restarts=[b"x"]) as one:
        one.want("first")
        one.want("restarts")
        await asyncio.sleep(0)
        one.reads.want(wanted("restarts", previous=True))  # its container was started again meanwhile
        let_go.set()
        await one.read("restarts")
        assert one.source.asked == [("main", False), ("main", True)]


@pytest.mark.must_survive(17)
async def test_the_exact_bytes_are_stored_and_the_event_leads_to_them() -> None:
    archive, data = MemoryArchive(), b"\xff{'a': 1}\n" * 90
    async with room(excerpt_bytes=256, archive=archive, pod=[[data[:7], data[7:]]]) as one:
        read = await one.read("pod")
    assert archive.kept == {PATH: data}
    assert (read.log.ref, read.log.state, read.is_cut) == ("ref", "complete", True)


@pytest.mark.must_survive(18)
async def test_a_log_longer_than_the_stores_limit_is_cut_and_said_to_be() -> None:
    archive = MemoryArchive(limit=1000)
    async with room(archive=archive, pod=[[b"x" * 600, b"y" * 600, b"z" * 600]]) as one:
        read = await one.read("pod")
    assert archive.kept[PATH] == b"x" * 600 + b"y" * 400
    assert (read.log.state, read.log.reason, read.log.bytes) == ("truncated", "store-limit", 1800)


@pytest.mark.must_survive(23)
@pytest.mark.parametrize("answer", [b"", NotFound("gone", code=404), b"unable to retrieve container logs for x"])
async def test_an_empty_or_missing_log_replaces_nothing_in_the_store(answer: Answer) -> None:
    archive = MemoryArchive()
    async with room(archive=archive, pod=[answer]) as one:
        assert (await one.read("pod")).log.ref is None
    assert archive.kept == {}


@pytest.mark.must_survive(19)
async def test_of_a_log_whose_pod_went_while_it_was_read_the_longest_read_is_kept() -> None:
    archive = MemoryArchive()
    answers: list[Answer] = [[b"half", b"cut"], [b"ha", b"cut"], NotFound("gone", code=404)]
    async with room(archive=archive, pod=answers) as one:
        read = await one.read("pod")
    assert (read.output, read.log.bytes, read.log.sha256) == ("half", 4, hashlib.sha256(b"half").hexdigest())
    assert (read.log.state, read.log.reason, read.log.ref) == ("truncated", "pod-gone", "ref")
    assert archive.kept == {PATH: b"half"}


@pytest.mark.parametrize("reason", [REFUSED, UNAVAILABLE])
async def test_a_store_that_refuses_costs_the_reference_and_not_the_excerpt(reason: str) -> None:
    async with room(archive=MemoryArchive(ArchiveError(reason, "no")), pod=[b"what it said"]) as one:
        read = await one.read("pod")
        assert (read.output, read.log.ref, read.log.bytes) == ("what it said", None, 12)
        assert (read.log.state, read.log.reason) == ("complete", reason)
        assert one.done == ["job"]


@pytest.mark.must_survive(24)
async def test_a_redis_that_is_away_longer_than_a_read_may_take_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LONGEST_READ_SECONDS", 0.01)
    archive, passed = MemoryArchive(), asyncio.get_running_loop().time() + 0.05
    archive.is_back.clear()
    async with room(archive=archive, store_seconds=None, pod=[b"what it said"]) as one:
        one.want("pod")
        await eventually(lambda: asyncio.get_running_loop().time() > passed)
        archive.is_back.set()
        read = await one.read("pod")
        assert (read.output, read.log.ref, read.log.state) == ("what it said", "ref", "complete")


@pytest.mark.must_survive(22)
async def test_a_slow_store_does_not_hold_up_the_event_and_gets_the_log_all_the_same() -> None:
    archive = MemoryArchive()
    archive.is_back.clear()
    async with room(archive=archive, pod=[b"what it said"]) as one:
        read = await one.read("pod")
        assert (read.output, read.log.ref, read.log.reason) == ("what it said", None, "store-unavailable")
        archive.is_back.set()
        await eventually(lambda: archive.kept)
    assert archive.kept == {PATH: b"what it said"}


async def test_logs_that_wait_for_a_slow_store_are_owed_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_SLOW", 2)
    archive = MemoryArchive()
    archive.is_back.clear()
    names = [f"pod{n}" for n in range(5)]
    async with room(archive=archive, **{name: [b"x"] for name in names}) as one:
        for name in names:
            assert (await one.read(name)).log.reason == UNAVAILABLE
        await eventually(lambda: one.reads.under_way == 2)
        archive.is_back.set()
        await eventually(lambda: not one.reads.under_way)
    assert len(archive.kept) == 2


async def test_a_read_whose_job_is_told_goes_on_for_the_store() -> None:
    archive, let_go = MemoryArchive(), asyncio.Event()
    async with room(archive=archive, pod=[let_go]) as one:
        one.want("pod")
        await eventually(lambda: one.source.open)
        one.reads.drop(wanted("pod").key)
        let_go.set()
        await eventually(lambda: archive.kept)
        assert (archive.kept, one.done) == ({PATH: b"late"}, [])
        assert one.reads.get(wanted("pod").key) is None


async def test_a_log_is_brought_to_a_store_that_did_not_take_it() -> None:
    archive = MemoryArchive(ArchiveError(UNAVAILABLE, "no"), ArchiveError(UNAVAILABLE, "no"))
    async with room(archive=archive, pod=[b"x", b"x", b"x", NotFound("gone", code=404)]) as one:
        assert (await one.read("pod")).log.ref is None
        answers = [await one.reads.bring(wanted("pod")) for _ in range(3)]
        assert [answer and answer.reason for answer in answers] == [UNAVAILABLE, None, None]
    assert archive.kept == {PATH: b"x"}
