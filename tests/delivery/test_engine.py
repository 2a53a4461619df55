"""What the delivery engine promises, on a real Valkey, with plain coroutines as targets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobcast.delivery.engine import Options
from jobcast.delivery.target import Delivery, Ended, Refused, RetryPolicy
from jobcast.redis.connection import connect
from tests.conftest import ValkeyServer
from tests.delivery.processes import (
    GROUP,
    KEYS,
    Log,
    Plain,
    Process,
    add,
    dead_letters,
    is_empty,
    processes,
    until,
)

SHORT = Options(slots=8, lease=1.5)


@pytest.fixture
def url(valkey: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{valkey.port}/0"


@pytest.fixture
async def client(url: str) -> AsyncIterator[Any]:
    async with connect(url) as made:
        yield made


async def test_every_target_gets_every_entry_and_nothing_is_left_behind(url: str, client: Any) -> None:
    log = Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            await asyncio.sleep(0)

    entries = await add(client, *(f"e{i % 20}" for i in range(200)))
    async with processes(url, [Plain("a", run), Plain("b", run)], 2):
        await until(lambda: is_empty(client))
    assert sorted(log.ended) == sorted((name, entry) for name in "ab" for entry in entries)


async def test_entries_of_a_key_are_handled_one_after_the_other_in_their_order(url: str, client: Any) -> None:
    log = Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            await asyncio.sleep(0.001)

    entries = await add(client, *(f"e{i % 3}" for i in range(90)))
    async with processes(url, [Plain("a", run)], 3):
        await until(lambda: is_empty(client))
    assert not log.overlaps
    for first in range(3):
        assert [entry for entry in log.order_of("a") if entry in entries[first::3]] == entries[first::3]


async def test_new_entries_are_handled_as_they_come(url: str, client: Any) -> None:
    log = Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            pass

    async with processes(url, [Plain("a", run)], 2):
        for i in range(20):
            await add(client, f"e{i}")
            await until(lambda i=i: len(log.ended) == i + 1, seconds=10)  # type: ignore[misc]
        await until(lambda: is_empty(client))


async def test_a_target_that_always_fails_holds_up_nobody_else(url: str, client: Any) -> None:
    log = Log()

    async def fail(delivery: Delivery) -> None:
        raise RuntimeError("no")

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            pass

    late = RetryPolicy(max_retries=5, bounds=(600.0, 600.0))
    bad, good = Plain("bad", fail, retry=late), Plain("good", run)
    bad.wants = lambda event: event.eval_id != "other"  # type: ignore[method-assign]
    good.wants = lambda event: event.eval_id == "other"  # type: ignore[method-assign]
    await add(client, *(f"e{i}" for i in range(200)), "other")
    async with processes(url, [bad, good], options=Options(slots=2)):
        await until(lambda: len(log.ended) == 1)


async def test_a_crowd_of_one_evaluation_holds_up_nobody_else(url: str, client: Any) -> None:
    log = Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            await asyncio.sleep(0.005)

    for _ in range(5):
        await add(client, *(["crowd"] * 1000))
    others = await add(client, *(f"e{i}" for i in range(20)))
    async with processes(url, [Plain("a", run)], options=Options(slots=1)):
        await until(lambda: {("a", entry) for entry in others} <= set(log.ended), seconds=100)
        assert len(log.ended) < 2000


async def test_a_failed_run_is_repeated_and_then_a_dead_letter(url: str, client: Any) -> None:
    tries = []

    async def run(delivery: Delivery) -> None:
        tries.append(delivery.tries)
        raise ValueError("x" * 10_000)

    (entry,) = await add(client, "e")
    async with processes(url, [Plain("a", run)]):
        await until(lambda: is_empty(client))
    assert tries == [1, 2, 3, 4]
    (letter,) = await dead_letters(client)
    assert (letter["entry"], letter["handler"], letter["tries"]) == (entry, "a", "4")
    assert letter["reason"].startswith("ValueError: xxx")
    assert len(letter["reason"]) == 4096


async def test_a_refusal_is_a_dead_letter_at_once(url: str, client: Any) -> None:
    async def run(delivery: Delivery) -> None:
        raise Refused("no such queue")

    await add(client, "e")
    async with processes(url, [Plain("a", run)]):
        await until(lambda: is_empty(client))
    assert [letter["reason"] for letter in await dead_letters(client)] == ["no such queue"]


async def test_a_run_that_hangs_is_ended_by_its_limit(url: str, client: Any) -> None:
    async def run(delivery: Delivery) -> None:
        await asyncio.sleep(3600)

    await add(client, "e")
    target = Plain("a", run, time_limit=0.05, retry=RetryPolicy(max_retries=1, bounds=(0.01, 0.01)))
    async with processes(url, [target]):
        await until(lambda: is_empty(client))
    assert [letter["reason"] for letter in await dead_letters(client)] == ["it took longer than 0.05 s"]


async def test_a_rate_limit_holds_for_the_whole_group(url: str, client: Any) -> None:
    log = Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            pass

    loop = asyncio.get_running_loop()
    await add(client, *(f"e{i}" for i in range(11)))
    since = loop.time()
    async with processes(url, [Plain("a", run, rate=20.0)], 2):
        await until(lambda: is_empty(client))
    assert loop.time() - since >= 10 / 20 - 0.05


async def test_an_entry_that_cannot_be_read_is_one_dead_letter(url: str, client: Any) -> None:
    await client.xadd(KEYS.events, {"event": b"\xff{", "eval_id": "e", "status": "completed"})
    await client.xadd(KEYS.events, {"nothing": "here"})

    async def run(delivery: Delivery) -> None: ...

    async with processes(url, [Plain("a", run)]):
        await until(lambda: is_empty(client))
    assert [letter["handler"] for letter in await dead_letters(client)] == ["", ""]


async def test_a_drained_process_takes_no_more_and_ends_when_its_runs_have(url: str, client: Any) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    log = Log()

    async def run(delivery: Delivery) -> None:
        begun.set()
        with log.of(delivery):
            await gate.wait()

    (first,) = await add(client, "e")
    async with processes(url, [Plain("a", run)]) as (process,):
        await begun.wait()
        process.engine.drain()
        (second,) = await add(client, "f")
        assert not process.task.done()
        gate.set()
        await process.task
    assert log.ended == [("a", first)]
    assert await client.xpending_range(KEYS.events, GROUP, "-", "+", 10) == []
    async with processes(url, [Plain("a", run)]):
        await until(lambda: is_empty(client))
    assert log.ended == [("a", first), ("a", second)]


async def test_what_did_not_begin_goes_back_and_counts_as_no_try(url: str, client: Any) -> None:
    seen: list[Delivery] = []

    async def run(delivery: Delivery) -> Ended:
        seen.append(delivery)
        return Ended.BACK if len(seen) < 3 else Ended.DONE

    await add(client, "e")
    async with processes(url, [Plain("a", run)]):
        await until(lambda: is_empty(client))
    assert [delivery.tries for delivery in seen] == [1, 1, 1]


async def test_a_replay_is_for_its_target_alone_and_is_deleted_when_it_has_ended(url: str, client: Any) -> None:
    log = Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            pass

    (entry,) = await add(client, "e")
    ((_, fields),) = await client.xrange(KEYS.events, entry, entry)
    await client.xadd(KEYS.replays, {**fields, "handler": "b", "of": entry})
    await client.xadd(KEYS.replays, {**fields, "handler": "nobody", "of": entry})
    async with processes(url, [Plain("a", run), Plain("b", run)]):
        await until(lambda: is_empty(client))
    assert sorted(name for name, _ in log.ended) == ["a", "b", "b"]
    assert await client.xlen(KEYS.replays) == 0
    assert [letter["reason"] for letter in await dead_letters(client)] == ["no handler or route has the name nobody"]


async def test_big_entries_are_taken_as_far_as_they_fit(url: str, client: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("jobcast.delivery.engine.HELD_BYTES", 3_000_000)
    held: list[int] = []
    log = Log()

    async def run(delivery: Delivery) -> None:
        held.append(process.engine._runs.held_bytes)
        with log.of(delivery):
            await asyncio.sleep(0.01)

    for i in range(20):
        await add(client, f"e{i}", output="x" * 1_000_000)
    await add(client, "huge", output="x" * 5_000_000)
    async with processes(url, [Plain("a", run)], options=Options(slots=16)) as (process,):
        await until(lambda: is_empty(client))
    assert len(log.ended) == 21
    assert sorted(held)[-2] <= 3_000_000


async def test_data_of_another_version_is_refused(url: str, client: Any) -> None:
    await client.hset(KEYS.pulse(GROUP), "version", 2)
    process = Process(url, [])
    with pytest.raises(ValueError, match="newer version"):
        await process.task


async def test_data_of_the_former_engine_are_refused(url: str, client: Any) -> None:
    await client.hset(KEYS.lanes(), "e", "1-0")
    process = Process(url, [])
    with pytest.raises(ValueError, match="former engine"):
        await process.task
