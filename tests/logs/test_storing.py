"""The bytes of a log are stored exactly, never delay an event, and become a pending upload if the store does not accept them."""

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from jobcast.kube import NotFound
from jobcast.logs import reader
from jobcast.logstore.base import REFUSED, UNAVAILABLE, LogPlace, LogStoreError, Stored
from tests.conftest import eventually
from tests.logs.room import Answer, Words, room, wanted, without_pauses


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    yield without_pauses(monkeypatch)


class MemoryLogStore:
    """Stores committed logs. Fails one commit for each of its errors, and waits while it is down."""

    def __init__(self, *errors: LogStoreError, limit: int = 10_000) -> None:
        self.errors = list(errors)
        self.limit = limit
        self.stored: dict[str, bytes] = {}
        self.is_up = asyncio.Event()
        self.is_up.set()

    def new_upload(self, place: LogPlace) -> "MemoryUpload":
        return MemoryUpload(self, place)

    async def aclose(self) -> None:
        pass


class MemoryUpload:
    def __init__(self, store: MemoryLogStore, place: LogPlace) -> None:
        self.store, self.place, self.data = store, place, b""

    async def write(self, chunk: bytes) -> None:
        self.data += chunk

    async def commit(self) -> Stored:
        await self.store.is_up.wait()
        if self.store.errors:
            raise self.store.errors.pop(0)
        self.store.stored[self.place.path] = self.data[: self.store.limit]
        return Stored("ref", min(len(self.data), self.store.limit))

    async def abort(self, because: LogStoreError | None = None) -> None:
        pass


PATH = "evals/eval-42/job/pod/main.0.log"


@pytest.mark.must_survive(20)
async def test_a_delayed_read_is_of_the_instance_it_was_requested_for() -> None:
    let_go = asyncio.Event()
    async with room(concurrency=1, first=[let_go], restarts=[b"x"]) as one:
        one.want("first")
        one.want("restarts")
        await asyncio.sleep(0)
        one.reads.want(wanted("restarts", previous=True))  # its container was restarted meanwhile
        let_go.set()
        await one.read("restarts")
        assert one.source.asked == [("main", False), ("main", True)]


@pytest.mark.must_survive(17)
async def test_the_exact_bytes_are_stored_and_the_event_refers_to_them() -> None:
    store, data = MemoryLogStore(), b"\xff{'a': 1}\n" * 90
    async with room(excerpt_bytes=256, store=store, pod=[[data[:7], data[7:]]]) as one:
        read = await one.read("pod")
    assert store.stored == {PATH: data}
    assert (read.log.ref, read.log.state, read.is_cut) == ("ref", "complete", True)


@pytest.mark.must_survive(18)
async def test_a_log_longer_than_the_limit_of_the_store_is_truncated() -> None:
    store = MemoryLogStore(limit=1000)
    async with room(store=store, pod=[[b"x" * 600, b"y" * 600, b"z" * 600]]) as one:
        read = await one.read("pod")
    assert store.stored[PATH] == b"x" * 600 + b"y" * 400
    assert (read.log.state, read.log.reason, read.log.bytes) == ("truncated", "store-limit", 1800)


@pytest.mark.must_survive(23)
@pytest.mark.parametrize(
    "answer", [b"", NotFound("gone", code=404), [Words(b"unable to retrieve container logs for x")]]
)
async def test_an_empty_or_missing_log_replaces_nothing_in_the_store(answer: Answer) -> None:
    store = MemoryLogStore()
    async with room(store=store, pod=[answer]) as one:
        assert (await one.read("pod")).log.ref is None
    assert store.stored == {}


@pytest.mark.must_survive(19)
async def test_when_the_pod_is_deleted_during_a_read_what_was_read_counts() -> None:
    store = MemoryLogStore()
    answers: list[Answer] = [[b"half", b"cut"], [b"ha", b"cut"], NotFound("gone", code=404)]
    async with room(store=store, pod=answers) as one:
        read = await one.read("pod")
    assert (read.output, read.log.bytes, read.log.sha256) == ("half", 4, hashlib.sha256(b"half").hexdigest())
    assert (read.log.state, read.log.reason, read.log.ref) == ("truncated", "pod-gone", "ref")
    assert store.stored == {PATH: b"half"}


@pytest.mark.parametrize("reason", [REFUSED, UNAVAILABLE])
async def test_without_the_store_the_event_has_the_excerpt_but_no_reference(reason: str) -> None:
    async with room(store=MemoryLogStore(LogStoreError(reason, "no")), pod=[b"what it said"]) as one:
        read = await one.read("pod")
        assert (read.output, read.log.ref, read.log.bytes) == ("what it said", None, 12)
        assert (read.log.state, read.log.reason) == ("complete", reason)
        assert one.done == ["job"]


@pytest.mark.must_survive(24)
async def test_a_log_survives_a_redis_that_is_down_longer_than_a_read_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LONGEST_READ_SECONDS", 0.01)
    store, passed = MemoryLogStore(), asyncio.get_running_loop().time() + 0.05
    store.is_up.clear()
    async with room(store=store, store_seconds=None, pod=[b"what it said"]) as one:
        one.want("pod")
        await eventually(lambda: asyncio.get_running_loop().time() > passed)
        store.is_up.set()
        read = await one.read("pod")
        assert (read.output, read.log.ref, read.log.state) == ("what it said", "ref", "complete")


@pytest.mark.must_survive(22)
async def test_a_slow_store_does_not_delay_the_event_and_still_gets_the_log() -> None:
    store = MemoryLogStore()
    store.is_up.clear()
    async with room(store=store, pod=[b"what it said"]) as one:
        read = await one.read("pod")
        assert (read.output, read.log.ref, read.log.reason) == ("what it said", None, "store-unavailable")
        store.is_up.set()
        await eventually(lambda: store.stored)
    assert store.stored == {PATH: b"what it said"}


async def test_too_many_logs_for_a_slow_store_become_pending_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_SLOW_UPLOADS", 2)
    store = MemoryLogStore()
    store.is_up.clear()
    names = [f"pod{n}" for n in range(5)]
    async with room(store=store, **{name: [b"x"] for name in names}) as one:
        for name in names:
            assert (await one.read(name)).log.reason == UNAVAILABLE
        await eventually(lambda: one.reads.under_way == 2)
        store.is_up.set()
        await eventually(lambda: not one.reads.under_way)
    assert len(store.stored) == 2


async def test_a_read_whose_job_is_published_continues_for_the_store() -> None:
    store, let_go = MemoryLogStore(), asyncio.Event()
    async with room(store=store, pod=[let_go]) as one:
        one.want("pod")
        await eventually(lambda: one.source.open)
        one.reads.drop(wanted("pod").key)
        let_go.set()
        await eventually(lambda: store.stored)
        assert (store.stored, one.done) == ({PATH: b"late"}, [])
        assert one.reads.get(wanted("pod").key) is None


async def test_a_pending_upload_is_uploaded_once_the_store_accepts_it() -> None:
    store = MemoryLogStore(LogStoreError(UNAVAILABLE, "no"), LogStoreError(UNAVAILABLE, "no"))
    async with room(store=store, pod=[b"x", b"x", b"x", NotFound("gone", code=404)]) as one:
        assert (await one.read("pod")).log.ref is None
        answers = [await one.reads.upload_pending(wanted("pod")) for _ in range(3)]
        assert [answer and answer.reason for answer in answers] == [UNAVAILABLE, None, None]
    assert store.stored == {PATH: b"x"}
