"""Nothing of ours lives for ever. What was left over by others is found, and gets its expiry or its place when asked to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from jobcast.event import Log
from jobcast.ledger import repair
from jobcast.ledger.repair import Leftovers, Lifetimes, find_leftovers
from jobcast.logs.index import LogIndex
from jobcast.logstore.base import LogPlace
from jobcast.redis.connection import connect, connect_plain
from tests.conftest import ValkeyServer
from worker.entries import Entries

from .conftest import UID, World, world_on

RETENTION, TODO_LIFE = 1000, 500
FOR_EVER = ("events", "epoch", "open", "replays", "dead", "handlers", "unstored", "lanes", "index")
"""What is one key each, however many Jobs come and go, and is kept small from within."""


@pytest.fixture
def make_client(valkey: ValkeyServer) -> Callable[[], Any]:
    return lambda: connect(valkey.url)


@pytest.fixture
async def world(make_client: Callable[[], Any]) -> AsyncIterator[World]:
    async with world_on(make_client) as one:
        yield one


async def repaired(world: World) -> int:
    """How many there were. Looking finds as many before, and changes nothing; afterwards there are none."""
    before = await everything(world)
    found = await find_leftovers(world.client, world.keys, 60)
    assert await everything(world) == before
    lifetimes = Lifetimes(RETENTION, TODO_LIFE)
    assert await find_leftovers(world.client, world.keys, 60, lifetimes) == found
    assert await find_leftovers(world.client, world.keys, 60, lifetimes) == Leftovers()
    return found.total


async def everything(world: World) -> dict[bytes, tuple[bool, bytes]]:
    """Of each key whether it expires, and its value."""
    keys = await world.client.keys("*")
    return {key: (await world.client.ttl(key) >= 0, await world.client.dump(key)) for key in keys}


async def immortal(world: World) -> set[str]:
    """Keys without an expiry, but for those of which there is one."""
    found = {key.decode() for key in await world.client.keys("*") if await world.client.ttl(key) == -1}
    return found - {f"{world.keys.beginning}{name}" for name in FOR_EVER}


async def live(world: World, uid: str) -> None:
    """Everything that one Job leaves in Redis, from its beginning to its end and the end of its handler."""
    ledger, place = world.ledger, LogPlace("evals", "job", uid, "pod", "main")
    book = LogIndex(ledger, RETENTION)
    await world.publish(uid=uid)
    await world.publish("running", uid=uid, key="a")
    assert await ledger.claim(uid)
    await book.record_first_line(uid, "pod/main/0", "2026-11-20T10:00:00Z")
    await book.put(place, b"log", 3)
    await book.attach(place, "42", Log(bytes=3))
    await book.add_pending_upload(place, "42", "pod-uid")
    await world.publish("completed", uid=uid)
    await book.mark_uploaded(place)


def handle(url: str, world: World) -> None:
    """As a worker does: every entry, of two handlers."""
    with connect_plain(url) as client:
        entries = Entries(client, world.keys, max_age=TODO_LIFE)
        client.xgroup_create(world.keys.events, "worker", id="0")
        for entry, _ in client.xreadgroup("worker", "one", {world.keys.events: ">"}, count=1000)[0][1]:
            entries.open(entry.decode(), ["a", "b"])
            entries.start(entry.decode(), "a", "one", "attempt")
            entries.finish(entry.decode(), "a")
            entries.dead_letter(entry.decode(), "b", event=b"{}", reason="a test")


async def test_when_everything_is_over_nothing_is_left_without_an_expiry(world: World, valkey: ValkeyServer) -> None:
    for number in range(10):
        await live(world, f"{UID[:-2]}{number:02}")
    await asyncio.to_thread(handle, valkey.url, world)
    assert await immortal(world) == set()
    assert await world.client.zcard(world.keys.open) == 0
    assert await world.client.hlen(world.keys.unstored) == 0
    assert await repaired(world) == 0, "what has its expiry keeps it"


async def test_keys_that_lost_their_expiry_get_one(world: World, valkey: ValkeyServer) -> None:
    await live(world, UID)
    await asyncio.to_thread(handle, valkey.url, world)
    await world.client.hset(world.keys.todo("1-1"), "handler", "1")
    await world.client.hset(world.keys.todo("1-1", "worker:theirs"), "handler", "1")
    await world.client.set(world.keys.worker("one@host"), "here")
    for key in await world.client.keys("*"):
        await world.client.persist(key)
    lives = {
        world.keys.job(UID): RETENTION,
        world.keys.evaluation("42"): RETENTION,
        world.keys.log(UID, "pod", "main"): RETENTION,
        world.keys.todo("1-1"): TODO_LIFE,
        world.keys.todo("1-1", "worker:theirs"): TODO_LIFE,
        world.keys.claim(UID): 5,
        world.keys.worker("one@host"): 60,
    }
    assert await immortal(world) == set(lives)
    assert await repaired(world) == len(lives)
    assert await immortal(world) == set()
    for key, life in lives.items():
        assert life - 5 <= await world.client.ttl(key) <= life, key


async def test_what_belongs_to_an_open_job_is_kept(world: World) -> None:
    await world.publish("running", key="a")
    assert await repaired(world) == 0
    assert await immortal(world) == {world.keys.job(UID), world.keys.evaluation("42")}


async def test_an_open_job_that_is_missing_among_the_open_ones_is_put_back(world: World) -> None:
    await world.publish("running", key="a", created=1234.0)
    await world.client.delete(world.keys.open)
    assert await repaired(world) == 1
    assert await world.client.zrange(world.keys.open, 0, -1, withscores=True) == [(UID.encode(), 1234.0)]


async def test_the_record_of_a_job_whose_row_is_gone_goes_too(world: World) -> None:
    await world.publish("running", key="a")
    await world.client.delete(world.keys.job(UID))
    await world.ledger.forget_open(UID)
    assert await repaired(world) == 1
    assert await immortal(world) == set()


async def test_however_many_keys_there_are_all_are_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "PAGE", 10)
    for number in range(300):
        await world.client.set(world.keys.log(str(number), "pod", "main"), b"log")
    assert await repaired(world) == 300


async def test_keys_of_others_are_left_alone(world: World) -> None:
    theirs = ("{test2}:job:x", "test:job:x", "{test}job:x", "job:x", "{test}:mine:x")
    for key in theirs:
        await world.client.set(key, "x")
    assert await repaired(world) == 0
    assert await immortal(world) == set(theirs)


async def test_keys_of_another_type_get_their_expiry_too(world: World) -> None:
    keys = (world.keys.job("a"), world.keys.evaluation("b"), world.keys.todo("c"))
    for key in keys:
        await world.client.rpush(key, "a stranger's")
    await world.client.hset(world.keys.job("odd"), mapping={"status": "running", "created": "nan"})
    assert await repaired(world) == len(keys) + 1
    assert await world.ledger.open_uids() == ["odd"]


@pytest.mark.parametrize("group", ["worker", "worker:theirs"])
async def test_an_ordering_key_of_which_nothing_is_pending_goes_and_one_that_is_in_use_stays(
    world: World, group
) -> None:
    keys, lanes = world.keys, world.keys.lanes(group)
    for stream in (keys.events, keys.replays):
        for number in (1, 2):
            await world.client.xadd(stream, {"event": "{}"}, id=f"{number}-1")
        await world.client.xgroup_create(stream, group, id="0")
        await world.client.xreadgroup(group, "one", {stream: ">"})
        await world.client.xack(stream, group, "1-1")
    used = {"event": "2-1", "replay": "replay:2-1", "both": "1-1 2-1"}
    await world.client.hset(
        lanes, mapping=used | {"published": "1-1", "published again": "replay:1-1", "odd": "x", "empty": ""}
    )
    assert await repaired(world) == 4
    assert {key.decode(): value.decode() for key, value in (await world.client.hgetall(lanes)).items()} == used
    await world.client.delete(keys.events, keys.replays)
    assert await repaired(world) == len(used)
    assert not await world.client.exists(lanes)


async def test_a_search_that_has_no_time_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "PAGE", 10)
    for number in range(300):
        await world.client.set(world.keys.log(str(number), "pod", "main"), b"log")
    found = await find_leftovers(world.client, world.keys, 0, Lifetimes(RETENTION, TODO_LIFE))
    assert 0 < found.total < 300
    assert not found.is_all
    assert await repaired(world) == 300 - found.total


async def test_of_the_open_ones_only_those_without_a_row_or_with_an_end_are_forgotten(world: World) -> None:
    await world.publish("running", key="a")
    await world.publish("completed", uid="ended")
    await world.client.zadd(world.keys.open, {"ended": 1, "unknown": 1})
    for uid in (UID, "ended", "unknown"):
        await world.ledger.forget_open(uid)
    assert await world.ledger.open_uids() == [UID]
