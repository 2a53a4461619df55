"""What can happen between a subscriber and one Redis: it goes on by itself, skips nothing and does not hang."""

import asyncio
import functools
import signal
import subprocess
import sys
from typing import Any

import pytest

from jobcast.client import async_client, group, sync_client, waiting
from jobcast.redis.connection import connect, connect_plain
from jobcast.wire import encode
from testbed.faultproxy import FaultProxy
from testbed.valkey import ValkeyServer
from tests.client.conftest import World
from tests.client.subscribers import subscriber, take
from tests.client.telling import event
from tests.conftest import eventually
from tests.valkeys.nodes import SlowLoader

GROUP = "scoring"


def ids(entries: list[Any]) -> list[str]:
    return [entry.event.eval_id for entry in entries]


async def add(world: World, entry_id: str, eval_id: str) -> None:
    """An entry with an id of our choice: what a Redis whose clock is behind would give it."""
    one = event("running", eval_id)
    fields = {"id": one.id, "status": "running", "eval_id": eval_id, "event": encode(one)}
    await world.redis.xadd(world.keys.events, fields, id=entry_id)


async def command(server: ValkeyServer, *words: Any) -> Any:
    client = connect(server.url)
    try:
        return await client.execute_command(*words)
    finally:
        await client.aclose()


@pytest.mark.must_survive(26)
async def test_what_is_published_to_a_redis_that_restarted_empty_is_given_to_a_group_that_began_at_the_end(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    """It is told before the subscriber is back: a group made at the end again would never see it."""
    async with own_world.join().stream(GROUP, start="$") as entries:
        await own_world.teller.tell(event("running"))
        await take(entries, 1)
        own_valkey.stop(kill=True)
        own_valkey.start()
        await own_world.teller.tell(event("running"), event("completed"))
        assert [entry.event.status for entry in await take(entries, 2)] == ["running", "completed"]


@pytest.mark.must_survive(33)
async def test_a_group_skips_nothing_when_the_clock_of_an_emptied_redis_is_behind(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    async with own_world.join().stream(GROUP) as entries:
        await own_world.teller.tell(event("running"))
        await take(entries, 1)
        own_valkey.stop(kill=True)
        own_valkey.start()
        await add(own_world, "5-1", "43")
        assert ids(await take(entries, 1)) == ["43"]


@pytest.fixture
def soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobcast.client.follow.BLOCK_SECONDS", 0.1)


@pytest.mark.must_survive(33)
async def test_a_place_is_taken_back_when_the_clock_of_an_emptied_redis_is_behind(
    own_world: World, own_valkey: ValkeyServer, soon_quiet: None
) -> None:
    """Whether or not the subscriber notices a loss: a connection that lay idle is made anew without a word."""
    async with own_world.join().follow("0") as events:
        await own_world.teller.tell(event("running"))
        await take(events, 1)
        own_valkey.stop(kill=True)
        own_valkey.start()
        await add(own_world, "5-1", "43")
        assert [one.eval_id for one in await take(events, 1)] == ["43"]


@pytest.mark.must_survive(33)
async def test_a_place_is_taken_back_to_what_the_stream_still_has(world: World, soon_quiet: None) -> None:
    """As after a failover to a replica that lacks the latest entries, and whose clock is behind."""
    key = world.keys.events
    async with world.join().follow("0") as events:
        for number in (1, 2, 3):
            await add(world, f"{number}000-0", str(number))
        await take(events, 3)
        async with world.redis.pipeline() as at_once:
            at_once.delete(key)
            for entry_id in ("1000-0", "2000-0", "2000-7"):
                at_once.xadd(key, {"event": encode(event("completed", entry_id))}, id=entry_id)
            await at_once.execute()
        assert [one.eval_id for one in await take(events, 1)] == ["2000-7"], "and nothing twice"


@pytest.mark.must_survive(27)
async def test_a_redis_that_loads_its_data_is_waited_for(
    slow_loader: SlowLoader, kind: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "REREAD_SECONDS", 0.2)
    jobcast = subscriber(kind, slow_loader.url, prefix)
    async with jobcast.stream(GROUP) as entries, jobcast.follow("0") as events:
        await asyncio.to_thread(slow_loader.restart_slowly)
        before = entries.interruptions, events.interruptions
        waits = [asyncio.create_task(take(feed, 1, timeout=60)) for feed in (entries, events)]
        waits.append(asyncio.create_task(jobcast.wait("42", 20)))
        await eventually(lambda: entries.interruptions > before[0] and events.interruptions > before[1])
        assert slow_loader.is_loading()
        slow_loader.hurry()
        one = event("completed")
        record = {"status": "completed", "uid": one.job.uid, "event": encode(one)}
        redis = connect(slow_loader.url)
        await eventually(lambda: not slow_loader.is_loading())
        await redis.hset(f"{{{prefix}}}:eval:42", mapping=record)
        await redis.xadd(f"{{{prefix}}}:events", {"event": encode(one)})
        (entry,), (followed,), end = await asyncio.gather(*waits)
        assert entry.event == followed == end == one
        await redis.aclose()
    await jobcast.aclose()


@pytest.mark.must_survive(28)
async def test_a_primary_that_is_demoted_and_promoted_again_is_waited_for(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    """It unblocks who reads from it, and refuses who joins a group."""
    async with own_world.join().stream(GROUP) as entries:
        await own_world.teller.tell(event("running"))
        await take(entries, 1)
        waiting = asyncio.create_task(take(entries, 1, timeout=60))
        await eventually(lambda: _has_clients(own_valkey, "blocked_clients", 1))
        await command(own_valkey, "REPLICAOF", "127.0.0.1", "1")
        await eventually(lambda: entries.interruptions >= 2)
        await command(own_valkey, "REPLICAOF", "NO", "ONE")
        await own_world.teller.tell(event("completed"))
        assert [entry.event.status for entry in await waiting] == ["completed"]


async def _has_clients(server: ValkeyServer, kind: str, count: int) -> bool:
    said = (await asyncio.to_thread(server.ask, "INFO", "clients"))[kind]
    return bool(said == count)


@pytest.mark.must_survive(28)
async def test_a_name_that_leads_to_another_primary_is_followed(
    valkey: ValkeyServer, own_valkey: ValkeyServer, kind: str, prefix: str
) -> None:
    async with FaultProxy(own_valkey.port) as name:
        jobcast = subscriber(kind, f"redis://127.0.0.1:{name.port}/0", prefix)
        async with jobcast.stream(GROUP) as entries:
            waiting = asyncio.create_task(take(entries, 1, timeout=60))
            await eventually(lambda: _has_clients(own_valkey, "blocked_clients", 1))
            name.lead_to(valkey.port)
            await command(own_valkey, "REPLICAOF", "127.0.0.1", "1")
            redis = connect(valkey.url)
            await redis.xadd(f"{{{prefix}}}:events", {"event": encode(event("completed"))})
            await redis.aclose()
            assert [entry.event for entry in await waiting] == [event("completed")]
        await jobcast.aclose()


@pytest.mark.must_survive(28)
async def test_a_connection_that_is_reset_while_it_waits_loses_nothing(
    valkey: ValkeyServer, kind: str, prefix: str
) -> None:
    redis = connect(valkey.url)
    async with FaultProxy(valkey.port) as proxy:
        jobcast = subscriber(kind, f"redis://127.0.0.1:{proxy.port}/0", prefix)
        async with jobcast.stream(GROUP) as entries, jobcast.follow("$") as events:
            for number in range(5):
                waits = [asyncio.create_task(take(feed, 1)) for feed in (entries, events)]
                await eventually(lambda: _has_clients(valkey, "blocked_clients", 2))
                await proxy.cut()
                await redis.xadd(f"{{{prefix}}}:events", {"event": encode(event("running", str(number)))})
                (entry,), (followed,) = await asyncio.gather(*waits)
                assert (entry.event.eval_id, followed.eval_id) == (str(number), str(number))
            assert (entries.interruptions, events.interruptions) == (5, 5)
        await jobcast.aclose()
    await redis.aclose()


@pytest.mark.must_survive(28)
async def test_a_reply_with_entries_that_is_lost_is_given_again(valkey: ValkeyServer, kind: str, prefix: str) -> None:
    """Redis holds them for delivered, and nobody got them."""
    redis = connect(valkey.url)
    async with FaultProxy(valkey.port) as proxy:
        jobcast = subscriber(kind, f"redis://127.0.0.1:{proxy.port}/0", prefix)
        async with jobcast.stream(GROUP) as entries:
            proxy.lose_reply_to(b"XREADGROUP")
            waiting = asyncio.create_task(take(entries, 1, timeout=60))
            await redis.xadd(f"{{{prefix}}}:events", {"event": encode(event("running"))})
            (entry,) = await waiting
            assert entry.event == event("running")
            assert proxy.lost == 1
        await jobcast.aclose()
    await redis.aclose()


@pytest.mark.must_survive(2)
async def test_a_redis_that_is_frozen_is_noticed_and_used_again_when_it_thaws(
    own_world: World, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_client, "connect", functools.partial(connect, answer_seconds=0.3))
    monkeypatch.setattr(sync_client, "connect_plain", functools.partial(connect_plain, answer_seconds=0.3))
    monkeypatch.setattr(group, "BLOCK_SECONDS", 0.1)
    assert own_valkey.process is not None
    async with own_world.join().stream(GROUP) as entries:
        await own_world.teller.tell(*(event("running", str(number)) for number in range(4)))
        taken = await take(entries, 2)
        own_valkey.process.send_signal(signal.SIGSTOP)
        try:
            waiting = asyncio.create_task(take(entries, 4, timeout=60))
            await eventually(lambda: entries.interruptions >= 1)
        finally:
            own_valkey.process.send_signal(signal.SIGCONT)
        await own_world.teller.tell(*(event("running", str(number)) for number in range(4, 6)))
        assert ids(taken + await waiting) == [str(number) for number in range(6)]


CRASHING = """
import sys
from jobcast.client import Client

url, prefix = sys.argv[1:]
with Client(url, prefix) as jobcast:
    for entry in jobcast.stream("scoring", "pod-0"):
        print(entry.event.id, flush=True)
        sys.stdin.read()  # at work
"""


@pytest.mark.must_survive(30)
async def test_what_was_in_work_when_its_process_was_killed_comes_again_first(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    world = own_world
    await world.teller.tell(event("running"), event("completed"))
    process = subprocess.Popen(  # noqa: ASYNC220 (pipes of threads: it is killed, and asyncio would complain)
        [sys.executable, "-c", CRASHING, own_valkey.url, world.keys.prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        worked = (await asyncio.to_thread(process.stdout.readline)).decode().strip()
        process.kill()
        process.wait(60)
    async with world.join().stream(GROUP, "pod-0") as entries:
        again = await take(entries, 2)
    assert [entry.event.id for entry in again] == [worked, event("completed").id]
    assert again[0].is_redelivered


async def test_as_many_wait_as_like_to(valkey: ValkeyServer, kind: str, prefix: str) -> None:
    """Each holds a connection and needs another one to read: with a limit they would keep one another from it."""
    redis, count = connect(valkey.url), 120
    jobcast = subscriber(kind, valkey.url, prefix)
    waits = [asyncio.create_task(jobcast.wait(str(number), 60)) for number in range(count)]
    if kind == "asyncio":
        await eventually(lambda: _has_clients(valkey, "pubsub_clients", count))
    for number in range(count):
        one = event("completed", str(number))
        record = {"status": "completed", "uid": one.job.uid, "event": encode(one)}
        await redis.hset(f"{{{prefix}}}:eval:{number}", mapping=record)
        await redis.publish(f"{prefix}:completed", encode(one))
    assert [end.eval_id for end in await asyncio.gather(*waits)] == [str(number) for number in range(count)]
    await jobcast.aclose()
    await redis.aclose()


@pytest.mark.must_survive(26)
async def test_a_wait_ends_though_redis_restarted_empty_and_is_filled_again(
    own_world: World, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "REREAD_SECONDS", 0.2)
    await own_world.teller.tell(event("running"))
    wait = asyncio.create_task(own_world.join().wait("42", 30))
    await eventually(lambda: own_world.redis.pubsub_numsub(own_world.keys.channel("completed")))
    own_valkey.stop(kill=True)
    own_valkey.start()
    await own_world.teller.tell(event("running"), event("completed"))
    assert await wait == event("completed")
