"""How far behind the consumer groups of a stream are, and which of them are dead, on a real Valkey."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio

from jobcast.keys import Keys
from jobcast.ledger.groups import DEAD_SECONDS, Consumer, GroupState, groups
from jobcast.redis.connection import connect
from testbed.valkey import ValkeyServer

KEYS = Keys("groups")


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator["redis.asyncio.Redis"]:
    client = connect(valkey.url, prefix=KEYS.prefix)
    yield client
    await client.aclose()


async def add(client: "redis.asyncio.Redis", stream: str = KEYS.events, count: int = 1, entry: str = "*") -> None:
    for _ in range(count):
        await client.xadd(stream, {"event": "{}"}, id=entry)


async def only(client: "redis.asyncio.Redis") -> GroupState:
    (state,) = await groups(client, KEYS)
    return state


async def test_without_a_stream_there_are_no_groups(client: "redis.asyncio.Redis") -> None:
    assert await groups(client, KEYS) == []
    await add(client)
    assert await groups(client, KEYS) == []


async def test_a_group_says_what_it_has_not_read_and_what_it_has_not_acknowledged(
    client: "redis.asyncio.Redis",
) -> None:
    hour_ago = int((time.time() - 3600) * 1000)
    await add(client, entry=f"{hour_ago}-7")
    await add(client, count=4)
    await client.xgroup_create(KEYS.events, "scoring", id="0")
    await client.xreadgroup("scoring", "one", {KEYS.events: ">"}, count=2)
    state = await only(client)
    assert (state.stream, state.name, state.unread, state.pending, state.lag) == (KEYS.events, "scoring", 3, 2, 5)
    assert state.oldest_pending == f"{hour_ago}-7"
    assert 3590 < state.waiting < 3700
    assert [(one.name, one.pending) for one in state.consumers] == [("one", 2)]
    assert state.silent is not None
    assert state.silent < 60
    assert not state.is_dead


async def test_the_groups_of_both_streams_are_found(client: "redis.asyncio.Redis") -> None:
    for stream, group in ((KEYS.replays, "worker"), (KEYS.events, "worker"), (KEYS.events, "audit")):
        await client.xgroup_create(stream, group, id="0", mkstream=True)
    found = [(state.stream, state.name) for state in await groups(client, KEYS)]
    assert found == [(KEYS.events, "audit"), (KEYS.events, "worker"), (KEYS.replays, "worker")]


async def test_what_is_acknowledged_is_nobodys_concern(client: "redis.asyncio.Redis") -> None:
    await client.xgroup_create(KEYS.events, "scoring", id="0", mkstream=True)
    await add(client)
    ((_, ((entry, _),)),) = await client.xreadgroup("scoring", "one", {KEYS.events: ">"})
    await client.xack(KEYS.events, "scoring", entry)
    state = await only(client)
    assert (state.lag, state.oldest_pending, state.waiting) == (0, None, 0.0)


async def test_where_redis_cannot_count_it_is_at_most_all_there_is(client: "redis.asyncio.Redis") -> None:
    await client.xgroup_create(KEYS.events, "scoring", id="0", mkstream=True)
    await add(client, count=3)
    ((entry, _),) = await client.xrange(KEYS.events, count=1)
    await client.xreadgroup("scoring", "one", {KEYS.events: ">"}, count=1)
    second = (await client.xrange(KEYS.events, min=f"({entry.decode()}", count=1))[0][0]
    await client.xdel(KEYS.events, second)
    (info,) = await client.xinfo_groups(KEYS.events)
    assert info["lag"] is None
    assert (await only(client)).unread == 2
    await client.xreadgroup("scoring", "one", {KEYS.events: ">"})
    await client.xgroup_setid(KEYS.events, "scoring", "$")
    assert (await only(client)).unread == 0


async def test_a_group_that_is_behind_and_silent_for_a_day_is_dead(client: "redis.asyncio.Redis") -> None:
    await client.xgroup_create(KEYS.events, "scoring", id="0", mkstream=True)
    assert not (await only(client)).is_dead
    await add(client)
    assert (await only(client)).is_dead  # nobody reads for it
    await client.xreadgroup("scoring", "one", {KEYS.events: ">"})
    state = await only(client)
    assert not state.is_dead
    silent, busy = Consumer("one", 1, DEAD_SECONDS), Consumer("two", 0, DEAD_SECONDS - 1)
    assert replace(state, consumers=(silent,)).is_dead
    assert not replace(state, consumers=(silent, busy)).is_dead
    assert replace(state, consumers=(silent, busy)).silent == DEAD_SECONDS - 1
    assert not replace(state, consumers=(silent,), pending=0).is_dead


async def test_a_foreign_key_is_an_error_and_not_a_missing_stream(client: "redis.asyncio.Redis") -> None:
    await client.set(KEYS.events, "mine")
    with pytest.raises(redis.ResponseError, match="wrong kind"):
        await groups(client, KEYS)
