"""follow(): the stream from a place on, the place kept in this process."""

import asyncio

import pytest

from jobcast.wire import encode
from testbed.valkey import ValkeyServer
from tests.client.conftest import World
from tests.client.subscribers import take
from tests.client.telling import event


async def test_it_begins_with_all_that_is_kept_and_goes_on(world: World) -> None:
    await world.teller.tell(event("running"))
    async with world.join().follow("0") as events:
        await world.teller.tell(event("completed"))
        assert await take(events, 2) == [event("running"), event("completed")]
        assert events.raw == encode(event("completed"))


async def test_it_begins_with_new_ones_unless_asked_for_more(world: World) -> None:
    await world.teller.tell(event("running"))
    async with world.join().follow() as events:
        await world.teller.tell(event("completed"))
        assert await take(events, 1) == [event("completed")]


async def test_it_begins_after_an_entry(world: World) -> None:
    await world.teller.tell(event("running"), event("completed"))
    (first, _), *_ = await world.redis.xrange(world.keys.events)
    async with world.join().follow(first.decode()) as events:
        assert await take(events, 1) == [event("completed")]


@pytest.mark.parametrize("since", ["", "yesterday", "-1", "1-2-3", "+", ">"])
async def test_what_is_no_place_is_refused_at_once(world: World, since: str) -> None:
    with pytest.raises(ValueError, match="is not a position in the stream"):
        world.join().follow(since)


async def test_an_entry_that_is_no_event_is_skipped_and_counted(world: World) -> None:
    await world.redis.xadd(world.keys.events, {"event": b"{}"})
    await world.teller.tell(event("completed"))
    async with world.join().follow("0") as events:
        assert await take(events, 1) == [event("completed")]
        assert events.malformed == 1


async def test_it_goes_on_where_it_was_after_a_restart_of_redis(
    own_persistent_world: World, persistent_valkey: ValkeyServer
) -> None:
    world, valkey = own_persistent_world, persistent_valkey
    async with world.join().follow("0") as events:
        await world.teller.tell(event("running"))
        assert await take(events, 1) == [event("running")]
        valkey.stop(kill=True)
        valkey.start()
        await world.teller.tell(event("completed"))
        waiting = asyncio.create_task(take(events, 1, timeout=60))
        assert await waiting == [event("completed")]
