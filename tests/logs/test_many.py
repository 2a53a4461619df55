"""Many reads at a time: each within limits, and none at another Job's cost."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from jobcast.logs import read, reader
from jobcast.logstore import open_log_store
from tests.conftest import eventually
from tests.logs.room import FakeSource, room, wanted, without_pauses


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    yield without_pauses(monkeypatch)


@pytest.mark.must_survive(22, 40)
async def test_logs_of_running_containers_take_no_slot_from_those_of_ended_ones() -> None:
    let_go, names = asyncio.Event(), [f"pod{n}" for n in range(4)]
    chatty = {f"chatty{n}": [[b"one\n" for _ in range(9)]] for n in range(3)}
    async with room(concurrency=4, **chatty, **{name: [let_go] for name in names}) as one:
        for name in names:
            one.want(name)
        await eventually(lambda: one.source.open == 4)
        for name in chatty:
            one.reads.want(wanted(name, follow=True, ahead=True))
        await asyncio.sleep(0.3)
        assert one.source.open == 5, "one waits for each four slots, and the others are not requested"
        state = one.reads._states[wanted("chatty0").key]
        assert state.body is not None
        assert state.body.excerpt.size == 0
        let_go.set()
        for name in (*names, *chatty):
            await one.read(name)
    assert (one.reads._slots._value, one.reads._options.ahead._value) == (4, 1)


@pytest.mark.must_survive(22)
async def test_a_hanging_read_delays_its_own_job_only() -> None:
    async with room(hangs=[asyncio.Event()], other=[b"x"]) as one:
        assert one.want("hangs", "slow job") is None
        assert (await one.read("other")).output == "x"
        assert one.want("hangs", "slow job") is None
        assert one.done == ["job"]


@pytest.mark.must_survive(22)
async def test_a_read_that_never_ends_is_given_up_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LONGEST_READ_SECONDS", 0.01)
    async with room(pod=[asyncio.Event()]) as one:
        read = await one.read("pod")
        assert (read.log.state, read.log.reason) == ("unavailable", "timeout")


async def test_no_more_reads_at_a_time_than_allowed() -> None:
    let_go = asyncio.Event()
    names = [f"pod{n}" for n in range(10)]
    async with room(concurrency=3, **{name: [let_go] for name in names}) as one:
        for name in names:
            one.want(name)
        await eventually(lambda: one.source.open == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert one.source.open == 3
        let_go.set()
        for name in names:
            assert (await one.read(name)).output == "late"


@pytest.mark.must_survive(22)
async def test_reads_that_hang_give_their_slots_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "HANG_SECONDS", 0.01)
    let_go = asyncio.Event()
    async with room(concurrency=2, one=[let_go], two=[let_go], other=[b"x"]) as one:
        one.want("one")
        one.want("two")
        assert (await one.read("other")).output == "x"
        let_go.set()
        assert [(await one.read(name)).output for name in ("one", "two")] == ["late", "late"]
    assert one.reads._slots._value == 2, "a slot was lost, or released twice"


@pytest.mark.must_survive(18, 40)
async def test_an_event_whose_time_is_over_has_what_was_read_by_then() -> None:
    more = asyncio.Event()

    class Slow(FakeSource):
        async def _chunks(self, answer: Any, more_: Mapping[str, str]) -> AsyncIterator[bytes]:
            async for chunk in super()._chunks(answer, more_):
                yield chunk
            if "tailLines" not in more_:
                await more.wait()

    async with room(pod=[b"one\ntwo\n"]) as one:
        one.reads._source = Slow(pod=[b"one\ntwo\n"])
        key = wanted("pod").key
        assert one.reads.get_part(key, "timeout") is None
        one.reads.want(wanted("pod", follow=True, ahead=True))
        part = await eventually(lambda: one.reads.get_part(key, "timeout"))
        assert (part.output, part.log.state, part.log.reason, part.log.bytes) == (
            "one\ntwo\n",
            "truncated",
            "timeout",
            8,
        )
        more.set()
        assert (await one.read("pod")).log.state == "complete"


async def test_a_log_is_read_once_although_it_is_wanted_many_times() -> None:
    async with room(pod=[[b"a", b"b"]]) as one:
        assert [one.want("pod") for _ in range(5)] == [None] * 5
        assert (await one.read("pod")).output == "ab"
        assert one.want("pod") is one.want("pod")
        assert one.source.tries == ["pod"]


async def test_a_dropped_read_is_read_again_when_it_is_wanted() -> None:
    async with room(pod=[b"x"]) as one:
        await one.read("pod")
        one.reads.drop(wanted("pod").key)
        one.reads.drop(wanted("pod").key)
        assert one.want("pod") is None
        await one.read("pod")
        assert one.source.tries == ["pod", "pod"]


async def test_a_read_that_is_not_wanted_any_more_is_cancelled() -> None:
    async with room(pod=[asyncio.Event()]) as one:
        one.want("pod")
        await eventually(lambda: one.source.open)
        one.reads.drop(wanted("pod").key)
        await eventually(lambda: not one.source.open)
        assert one.done == []


@pytest.mark.must_survive(34)
async def test_excerpts_held_for_unpublished_jobs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CACHED_BYTES", 1000)
    names = [f"pod{n}" for n in range(10)]
    async with room(concurrency=1, **{name: [b"x" * 300] for name in names}) as one:
        for name in names:
            one.want(name)
        await eventually(lambda: len(one.done) == 10)
        assert [name for name in names if one.want(name)] == names[-3:]
        for name in names:
            one.reads.drop(wanted(name).key)
        assert one.reads._cached_bytes == 0


class RedisIsDown:
    """In place of a Rotation, which asks Redis for the recorded first line."""

    def __init__(self) -> None:
        self.is_up = asyncio.Event()

    async def is_rotated(self, *_: Any, **__: Any) -> bool:
        await self.is_up.wait()
        return False

    def drop(self, *_: Any) -> None:
        pass


@pytest.mark.must_survive(24)
@pytest.mark.must_survive(34)
async def test_logs_that_wait_for_redis_keep_others_from_being_read_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read, "HANG_SECONDS", 0.001)
    names = [f"pod{n}" for n in range(10)]
    async with room(concurrency=2, **{name: [b"x"] for name in names}) as one:
        one.reads.rotation = down = RedisIsDown()  # type: ignore[assignment]
        for name in names:
            one.want(name)
        await eventually(lambda: len(one.source.tries) == 2)
        await asyncio.sleep(0.02)  # many times as long as a read that hangs keeps its slot
        assert len(one.source.tries) == 2
        down.is_up.set()
        for name in names:
            assert (await one.read(name)).output == "x"
    assert one.reads._slots._value == 2


@pytest.mark.must_survive(34)
async def test_a_read_that_is_dropped_the_moment_it_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    store = open_log_store(f"file://{tmp_path}", put=None, limit=0)  # type: ignore[arg-type]
    async with room(store=store, pod=[b"x"]) as one:
        one.want("pod")
        (state,) = one.reads._states.values()
        task = state.task
        assert task is not None
        while not task.done():
            await asyncio.sleep(0)
            if task.done() or state.read is not None:
                one.reads.drop(wanted("pod").key)
        one.reads.drop(wanted("pod").key)
        await eventually(lambda: one.reads.under_way == 0)
        assert not one.reads._states


async def test_one_log_larger_than_the_bound_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CACHED_BYTES", 10)
    async with room(pod=[b"x" * 300]) as one:
        assert len((await one.read("pod")).output) == 300


@pytest.mark.must_survive(31)
async def test_reads_under_way_end_with_the_context() -> None:
    async with room(concurrency=1, hangs=[asyncio.Event()], waits=[b"x"]) as one:
        one.want("hangs")
        one.want("waits")
        await eventually(lambda: one.source.open)
    assert one.done == []
