"""Feeds, waits and questions over a failover, by sentinels and in a cluster: nothing is missing, whatever the new primary lacks."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from jobcast.client import Deduplicator, Unavailable, async_client, group, subscription, sync_client
from jobcast.event import Event
from jobcast.ledger.ledger import Outgoing, Step
from jobcast.redis import batcher
from jobcast.redis.connection import connect, connect_plain
from jobcast.redis.pipeline import Pipeline
from jobcast.wire import encode
from tests.client.conftest import World
from tests.client.subscribers import take
from tests.client.telling import BIRTH, event
from tests.conftest import eventually
from tests.valkeys.nodes import Doubled, lagging, wait_until

GROUP = "scoring"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that notice a mute Redis within a second."""
    monkeypatch.setattr(batcher, "Pipeline", functools.partial(Pipeline, answer_seconds=0.8))  # of who tells
    monkeypatch.setattr(async_client, "connect", functools.partial(connect, answer_seconds=0.8))
    monkeypatch.setattr(sync_client, "connect_plain", functools.partial(connect_plain, answer_seconds=0.8))
    monkeypatch.setattr(group, "BLOCK_SECONDS", 0.3)
    monkeypatch.setattr(subscription, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(subscription, "ANSWER_SECONDS", 0.8)


async def tell(world: World, events: Sequence[Event]) -> None:
    """As a relist does: also what was told, and is passed over then."""
    for one in events:
        await world.teller.ledger.step(
            Step(
                uid=one.job.uid,
                version=1,
                created=BIRTH,
                eval_id=one.eval_id,
                namespace=one.job.namespace,
                name=one.job.name,
                status=one.status.value,
                outgoing=(Outgoing(one.id, one.status.value, encode(one)),),
            )
        )


async def until_heard(world: World, events: Sequence[Event], hearing: "asyncio.Task[Any]") -> Any:
    """Tell again and again, as whoever notices a failover a little later does, until it has been heard."""
    async with asyncio.timeout(60):
        while not hearing.done():
            await tell(world, events)
            await asyncio.wait([hearing], timeout=0.1)
    return await hearing


async def hear_anew(world: World, hearing: "asyncio.Task[Any]") -> None:
    """Tell other things until one of them is heard."""
    number = 0
    async with asyncio.timeout(60):
        while not hearing.done():
            number += 1
            await tell(world, [event("failed", f"after-{number}")])
            await asyncio.wait([hearing], timeout=0.05)
    await hearing


async def gather_ids(feed: Any, wanted: set[str]) -> list[str]:
    """The ids given until none of those wanted is missing."""
    given: list[str] = []
    async with asyncio.timeout(60):
        while wanted - set(given):
            item = await anext(feed)
            given.append(getattr(item, "event", item).id)
    return given


@pytest.mark.must_survive(28)
@pytest.mark.parametrize("way", ["killed", "demoted", "mute"])
async def test_feeds_and_waits_go_on_with_the_new_primary(doubled_world: World, doubled: Doubled, way: str) -> None:
    world, subscriber = doubled_world, doubled_world.join()
    told = [event("running", str(number)) for number in range(20)]
    async with subscriber.stream(GROUP, batch=4) as entries, subscriber.events() as events:
        await tell(world, told[:10])
        first = [entry.event.id for entry in await take(entries, 3)]
        await take(events, 10)
        rest = asyncio.create_task(gather_ids(entries, {one.id for one in told} - set(first)))
        hearing = asyncio.create_task(take(events, 1, timeout=100))
        wait = asyncio.create_task(subscriber.wait("end", 100))
        async with failed_over(doubled, way):
            assert set(first + await until_heard(world, told, rest)) == {one.id for one in told}
            assert await until_heard(world, [event("completed", "end")], wait) == event("completed", "end")
            await hear_anew(world, hearing)

            async def is_known() -> bool:
                await tell(
                    world, [event("completed", "end")]
                )  # the old primary may have taken it before it was demoted
                return await status(subscriber, "end") == "completed"

            await eventually(is_known)


@contextlib.asynccontextmanager
async def failed_over(doubled: Doubled, way: str) -> AsyncIterator[None]:
    old, new = doubled.primary, doubled.replica
    if way != "mute":
        await asyncio.to_thread(doubled.fail_over, kill=way == "killed")
        yield
        return
    old.freeze()
    try:
        await asyncio.to_thread(wait_until, lambda: new.role == "master")
        yield
    finally:
        old.thaw()


async def status(subscriber: Any, eval_id: str) -> str | None:
    """What asks once may fall into the gap, and says so."""
    try:
        record = await subscriber.get(eval_id)
    except Unavailable:
        return None
    return record.status if record else "nothing known"


@pytest.mark.must_survive(26)
@pytest.mark.must_survive(28)
async def test_what_the_new_primary_lacks_is_given_again_once_it_is_published_again_and_nothing_is_skipped(
    doubled_world: World, doubled: Doubled
) -> None:
    """Group, place and record were further than the new primary is: what is told in their place is new to it."""
    world, subscriber = doubled_world, doubled_world.join()
    kept, lost, new = ([event("running", f"{word}-{n}") for n in range(5)] for word in ("kept", "lost", "new"))
    end = event("completed", "lost-0")
    told = [*kept, *lost, end, *new]
    wanted = {one.id for one in (*lost, end, *new)}
    dedup = Deduplicator(100)
    async with subscriber.stream(GROUP) as entries, subscriber.follow("0") as events:
        await tell(world, kept)
        for entry in await take(entries, 5):
            dedup.done(entry.event.id)
        assert await take(events, 5) == kept
        await asyncio.to_thread(doubled.primary.ask, "WAIT", 1, 5000)
        async with lagging(doubled):
            await tell(world, [*lost, end])
            for entry in await take(entries, 6):
                dedup.done(entry.event.id)
            assert await take(events, 6) == [*lost, end]
        wait = asyncio.create_task(subscriber.wait("lost-0", 60))
        by_group = asyncio.create_task(gather_ids(entries, wanted))
        by_place = asyncio.create_task(gather_ids(events, wanted))
        given = await until_heard(world, told, by_group)
        assert [one for one in given if dedup.is_new(one)] == [one.id for one in new], "ids tell what was done before"
        given = await until_heard(world, told, by_place)
        assert not set(given) & {one.id for one in kept}, "what is kept is not given twice"
        assert await until_heard(world, told, wait) == end
