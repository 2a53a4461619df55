"""What the delivery engine does about what a process, a broker, trimming or Redis itself has lost, on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobcast.delivery.engine import Options
from jobcast.delivery.store import BEGIN, END
from jobcast.delivery.target import Delivery, Ended, Place
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
    jump,
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


async def test_what_a_killed_process_ran_is_handed_to_another(url: str, client: Any) -> None:
    log, begun = Log(), asyncio.Event()

    async def hang(delivery: Delivery) -> None:
        with log.of(delivery):
            begun.set()
            await asyncio.sleep(3600)

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            pass

    (entry, _) = await add(client, "e", "e")
    killed = Process(url, [Plain("a", hang)], SHORT)
    await begun.wait()
    await killed.kill()
    async with processes(url, [Plain("a", run)], options=SHORT):
        await until(lambda: is_empty(client))
    assert log.order_of("a")[0] == entry
    assert not await dead_letters(client)


async def test_a_process_that_beats_keeps_its_run_for_longer_than_the_lease(url: str, client: Any) -> None:
    log, go = Log(), asyncio.Event()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            await go.wait()

    await add(client, "e")
    async with processes(url, [Plain("a", run)], 3, SHORT):
        await until(lambda: len(log.begun) == 1)
        since = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > since + 2 * SHORT.lease)
        go.set()
        await until(lambda: is_empty(client))
    assert len(log.begun) == 1


async def test_an_entry_that_kills_its_process_each_time_becomes_a_dead_letter(url: str, client: Any) -> None:
    begun: list[Delivery] = []

    async def hang(delivery: Delivery) -> None:
        begun.append(delivery)
        await asyncio.sleep(3600)

    await add(client, "bad")
    for i in range(3):
        process = Process(url, [Plain("a", hang)], SHORT)
        await until(lambda i=i: len(begun) == i + 1)  # type: ignore[misc]
        await process.kill()
    async with processes(url, [Plain("a", hang)], options=SHORT):
        await until(lambda: is_empty(client))
    assert [delivery.tries for delivery in begun] == [1, 2, 3]
    (letter,) = await dead_letters(client)
    assert letter["reason"] == "its process died each time, or its time limit passed"


async def test_what_trimming_took_is_acknowledged(url: str, client: Any) -> None:
    gate, log = asyncio.Event(), Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            await gate.wait()

    await add(client, "e", "e", "e")
    async with processes(url, [Plain("a", run)]):
        await until(lambda: len(log.begun) == 1)
        await client.xtrim(KEYS.events, maxlen=0, approximate=False)
        gate.set()
        await until(lambda: is_empty(client))
    assert len(log.ended) == 1


async def test_a_message_that_the_broker_lost_is_sent_again(url: str, client: Any) -> None:
    sent: list[Delivery] = []

    async def send(delivery: Delivery) -> Ended:
        sent.append(delivery)
        return Ended.SENT

    (entry,) = await add(client, "e")
    log = Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            pass

    elsewhere, here = Plain("a", send, place=Place.ELSEWHERE), Plain("a", run)
    begun: list[bool] = []
    async with processes(url, [elsewhere]) as (process,):
        await until(lambda: len(sent) == 1)
        await jump(client, 61)
        process.engine._arrivals.wake.set()
        await until(lambda: len(sent) == 2)
        for _ in range(2):
            process.engine.offer(entry, here, begun.append)
        await until(lambda: is_empty(client))
        process.engine.offer(entry, here, begun.append)
        await until(lambda: len(begun) == 3)
    assert begun == [True, False, False]
    assert log.ended == [("a", entry)]


async def test_what_was_lost_waits_for_what_the_broker_offers_in_the_same_round(url: str, client: Any) -> None:
    """It begins alone in its process, and a message of the broker begins before it."""
    sent: list[Delivery] = []
    running: list[str] = []
    beside: list[list[str]] = []
    process: Process

    async def send(delivery: Delivery) -> Ended:
        sent.append(delivery)
        return Ended.SENT

    async def offered(delivery: Delivery) -> None:
        running.append(delivery.target)
        await client.ping()  # what the same round began has begun by now
        running.remove(delivery.target)

    async def run(delivery: Delivery) -> Ended:
        beside.append(list(running))
        if delivery.lost:
            return Ended.DONE
        await until(lambda: len(sent) == 1)
        process.engine.offer(delivery.entry, Plain("q", offered), lambda _: None)
        return Ended.LOST

    for script in (END, BEGIN):  # what Redis does not know yet runs behind the others of its round
        await client.script_load(script.text)
    await add(client, "e")
    async with processes(url, [Plain("a", run), Plain("q", send, place=Place.ELSEWHERE)]) as (process,):
        await until(lambda: is_empty(client))
    assert beside == [[], []]


async def test_a_run_that_is_lost_with_its_process_three_times_is_a_dead_letter(url: str, client: Any) -> None:
    seen: list[Delivery] = []

    async def run(delivery: Delivery) -> Ended:
        seen.append(delivery)
        return Ended.LOST

    await add(client, "e")
    async with processes(url, [Plain("a", run)]):
        await until(lambda: is_empty(client))
    assert [delivery.lost for delivery in seen] == [0, 1, 2]
    ((_, letter),) = await client.xrange(KEYS.dead)
    assert letter[b"reason"] == b"its process died each time, or its time limit passed"


async def test_after_an_outage_nobody_counts_as_dead(url: str, client: Any) -> None:
    log, go = Log(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            await go.wait()

    await add(client, "e")
    async with processes(url, [Plain("a", run)], 2, SHORT) as started:
        await until(lambda: len(log.begun) == 1)
        for process in started:
            process.hold()
        since = loop.time()
        await until(lambda: loop.time() > since + 2 * SHORT.lease)
        for process in started:
            process.go_on()
        await add(client, "f")
        await until(lambda: len(log.begun) == 2)
        go.set()
        await until(lambda: is_empty(client))
    assert len(log.begun) == 2


async def test_what_was_pending_and_queued_nowhere_is_repaired_at_the_start(url: str, client: Any) -> None:
    log = Log()

    async def run(delivery: Delivery) -> None:
        with log.of(delivery):
            pass

    entries = await add(client, "e", "f", "e")
    await client.xgroup_create(KEYS.events, GROUP, "0")
    await client.xreadgroup(GROUP, "router", {KEYS.events: ">"})
    async with processes(url, [Plain("a", run)]):
        await until(lambda: is_empty(client))
    assert sorted(log.ended) == sorted(("a", entry) for entry in entries)
