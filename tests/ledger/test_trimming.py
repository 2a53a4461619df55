"""Trimming, on a real Valkey: by age and by length, and never what a living group still needs."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from jobcast.ledger import groups as groups_room
from jobcast.ledger import trimming
from jobcast.ledger.groups import groups
from jobcast.ledger.trimming import Trimming
from jobcast.redis.connection import connect
from testbed.valkey import ValkeyServer

from .conftest import World, world_on

HOUR = 3600.0
NODE = 100
"""Entries that Redis keeps together, and lets go together."""


@pytest.fixture
def make_client(valkey: ValkeyServer) -> Callable[[], Any]:
    return lambda: connect(valkey.url)


@pytest.fixture
async def world(make_client: Callable[[], Any]) -> AsyncIterator[World]:
    async with world_on(make_client) as one:
        yield one


class Trims(Trimming):
    """Remembers what it said."""

    def __init__(self, max_age: float = 24 * HOUR, max_length: int = 1_000_000) -> None:
        self.said: list[str] = []
        super().__init__(
            max_age=max_age,
            max_length=max_length,
            died=lambda group: self.said.append(f"{group} died"),
            revived=lambda group: self.said.append(f"{group} is back"),
        )


async def fill(world: World, count: int, *, age: float = 0.0) -> list[str]:
    """So many entries, published `age` seconds ago; their ids."""
    millis = int((time.time() - age) * 1000)
    pipeline = world.client.pipeline()
    for number in range(count):
        pipeline.xadd(world.keys.events, {"event": "{}"}, id=f"{millis}-{number + 1}")
    return [entry.decode() for entry in await pipeline.execute()]


async def kept(world: World) -> int:
    return int(await world.client.xlen(world.keys.events))


async def read(world: World, group: str, count: int, *, acknowledge: int = 0) -> None:
    """The group is given so many entries, and acknowledges some of them."""
    given = await world.client.xreadgroup(group, "one", {world.keys.events: ">"}, count=count)
    if acknowledge and given:
        await world.client.xack(world.keys.events, group, *[entry for entry, _ in given[0][1][:acknowledge]])


@pytest.fixture
def day_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """When called, every consumer so far counts as silent for a day: Redis cannot be made to believe it."""

    def later() -> None:
        monkeypatch.setattr(trimming, "DEAD_SECONDS", 0.0)
        monkeypatch.setattr(groups_room, "DEAD_SECONDS", 0.0)

    return later


async def test_what_is_old_goes_and_what_is_young_stays(world: World) -> None:
    await fill(world, 5 * NODE, age=2 * HOUR)
    await fill(world, 5 * NODE)
    await Trims(max_age=3 * HOUR).trim(world.ledger)
    assert await kept(world) == 10 * NODE
    await Trims(max_age=HOUR).trim(world.ledger)
    assert await kept(world) == 5 * NODE


async def test_the_first_of_too_many_go(world: World) -> None:
    ids = await fill(world, 10 * NODE)
    await Trims(max_length=3 * NODE).trim(world.ledger)
    assert await kept(world) == 3 * NODE
    assert (await world.client.xrange(world.keys.events, count=1))[0][0].decode() == ids[7 * NODE]


async def test_however_many_are_too_many_they_go_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "MOST", 2 * NODE)
    await fill(world, 20 * NODE, age=2 * HOUR)
    await fill(world, 20 * NODE)
    await Trims(max_age=HOUR, max_length=NODE).trim(world.ledger)
    assert await kept(world) == NODE


@pytest.mark.parametrize("limit", [{"max_age": HOUR}, {"max_length": NODE}])
async def test_what_a_living_group_has_not_read_stays(world: World, limit) -> None:
    await fill(world, 10 * NODE, age=2 * HOUR)
    await world.client.xgroup_create(world.keys.events, "slow", id="0")
    await world.client.xgroup_create(world.keys.events, "quick", id="$")
    await read(world, "slow", 4 * NODE, acknowledge=4 * NODE)
    trims = Trims(**limit)
    await trims.trim(world.ledger)
    assert 6 * NODE <= await kept(world) <= 7 * NODE
    assert trims.said == []
    await read(world, "slow", 6 * NODE, acknowledge=6 * NODE)
    await trims.trim(world.ledger)
    assert await kept(world) <= NODE


@pytest.mark.parametrize("limit", [{"max_age": HOUR}, {"max_length": NODE}])
async def test_what_a_living_group_has_not_acknowledged_stays(world: World, limit) -> None:
    ids = await fill(world, 10 * NODE, age=2 * HOUR)
    await world.client.xgroup_create(world.keys.events, "slow", id="0")
    await read(world, "slow", 10 * NODE)
    await world.client.xack(world.keys.events, "slow", *ids[: 4 * NODE], *ids[5 * NODE :])
    await Trims(**limit).trim(world.ledger)
    assert await kept(world) == 6 * NODE
    assert (await world.client.xrange(world.keys.events, count=1))[0][0].decode() == ids[4 * NODE]


async def test_a_dead_group_holds_nothing_back_and_that_is_said_once(world: World, day_later, monkeypatch) -> None:
    await fill(world, 10 * NODE, age=2 * HOUR)
    await world.client.xgroup_create(world.keys.events, "left", id="0")
    await read(world, "left", NODE)
    trims = Trims(max_age=HOUR)
    await trims.trim(world.ledger)
    assert trims.said == []
    assert await kept(world) == 10 * NODE
    day_later()
    await trims.trim(world.ledger)
    await trims.trim(world.ledger)
    assert trims.said == ["left died"]
    assert trims.dead == {"left"}
    assert await kept(world) == 0
    monkeypatch.undo()
    await fill(world, NODE)
    await trims.trim(world.ledger)
    assert trims.said == ["left died", "left is back"]
    assert trims.dead == frozenset()


async def test_a_group_that_was_never_read_for_is_dead_once_it_is_behind(world: World) -> None:
    await fill(world, 1)
    await world.client.xgroup_create(world.keys.events, "nobody", id="$")
    trims = Trims()
    await trims.trim(world.ledger)
    assert trims.said == []
    await fill(world, 10)
    await trims.trim(world.ledger)
    assert trims.said == ["nobody died"]


async def test_a_group_that_has_read_everything_is_not_dead_however_long_it_has_been_silent(
    world: World, day_later
) -> None:
    await fill(world, NODE)
    await world.client.xgroup_create(world.keys.events, "done", id="0")
    await read(world, "done", NODE, acknowledge=NODE)
    day_later()
    trims = Trims()
    await trims.trim(world.ledger)
    assert trims.said == []


@pytest.mark.parametrize("consumers", ["none", "reading", "silent"])
@pytest.mark.parametrize("behind", ["unread", "unacknowledged", "not at all"])
async def test_what_is_dead_is_the_same_for_python_and_lua(world: World, day_later, consumers, behind) -> None:
    await fill(world, NODE)
    await world.client.xgroup_create(world.keys.events, "group", id="$" if behind == "not at all" else "0")
    if consumers != "none":
        await read(world, "group", 1 if behind == "unread" else NODE, acknowledge=1)
    if consumers == "silent":
        day_later()
    trims = Trims()
    await trims.trim(world.ledger)
    assert trims.dead == {state.name for state in await groups(world.client, world.keys) if state.is_dead}
    assert bool(trims.dead) == (behind != "not at all" and consumers != "reading")


async def test_replays_and_dead_letters_go_by_their_age_too(world: World) -> None:
    hours_ago = int((time.time() - 2 * HOUR) * 1000)
    for stream in (world.keys.replays, world.keys.dead):
        for number in range(NODE):
            await world.client.xadd(stream, {"event": "{}"}, id=f"{hours_ago}-{number + 1}")
    await world.client.xadd(world.keys.dead, {"event": "{}"})
    await Trims(max_age=HOUR).trim(world.ledger)
    assert await world.client.xlen(world.keys.replays) == 0
    assert await world.client.xlen(world.keys.dead) == 1


async def test_without_a_stream_there_is_nothing_to_trim_and_nothing_is_made(world: World) -> None:
    await Trims().trim(world.ledger)
    assert not await world.client.exists(world.keys.events, world.keys.replays, world.keys.dead)


async def test_publishing_alone_trims_nothing(world: World) -> None:
    for number in range(3 * NODE):
        await world.publish("completed", uid=str(number))
    assert await kept(world) == 3 * NODE


@pytest.mark.must_survive(27)
async def test_a_redis_that_is_full_can_still_be_trimmed(own_valkey: ValkeyServer) -> None:
    async with world_on(lambda: connect(own_valkey.url, answer_seconds=2)) as world:
        await fill(world, 20 * NODE, age=2 * HOUR)
        await world.client.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError):
            await fill(world, 1)
        await Trims(max_age=HOUR).trim(world.ledger)
        assert await kept(world) == 0
