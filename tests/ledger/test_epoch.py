"""A Redis that lost what it had acknowledged is noticed by its epoch; a claim has one holder and ends with it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobcast.ledger.ledger import CLAIM_SECONDS
from tests.conftest import eventually
from tests.ledger.conftest import UID, World, world_on


@pytest.mark.must_survive(26)
async def test_an_epoch_that_is_gone_is_noticed_once(world: World) -> None:
    await world.publish("running", key="a")
    watching = asyncio.create_task(world.ledger.watch_epoch(every=0.001))
    try:
        await asyncio.sleep(0)
        assert world.data_losses == []
        await world.client.flushall()
        await eventually(lambda: world.data_losses)
        assert await world.ledger.is_empty()
        await world.publish("running", key="a")
        await world.ledger.row(UID)
        assert world.data_losses == ["epoch"]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.must_survive(26)
async def test_a_flush_between_two_steps_is_noticed_by_the_second(world: World) -> None:
    await world.publish("running", key="a")
    await world.client.flushall()
    await world.publish("running", uid="another", key="a")
    assert world.data_losses == ["epoch"]
    await world.publish("running", uid="a third", key="a")
    assert world.data_losses == ["epoch"]


@pytest.mark.must_survive(26)
async def test_an_epoch_that_changed_is_noticed(world: World) -> None:
    await world.publish("running", key="a")
    await world.client.set(world.keys.epoch, "another")
    await world.publish("running", key="a")
    assert world.data_losses == ["epoch"]
    assert world.ledger.epoch == "another"


async def test_an_epoch_that_alone_was_lost_is_written_anew(world: World) -> None:
    await world.publish("running", key="a")
    await world.client.delete(world.keys.epoch)
    await world.publish("running", key="a")
    await world.publish("completed", version=11)
    assert world.data_losses == ["epoch"]
    assert await world.client.get(world.keys.epoch)


@pytest.mark.must_survive(32)
async def test_a_claim_has_one_holder_until_it_is_given_back(make_client: Callable[[], Any]) -> None:
    async with world_on(make_client) as one, world_on(make_client) as two:
        claims = await asyncio.gather(one.ledger.claim(UID), two.ledger.claim(UID))
        assert sorted(claims) == [False, True]
        first, second = (one, two) if claims[0] else (two, one)
        await one.client.pexpire(one.keys.claim(UID), 100)
        assert await first.ledger.claim(UID), "renewed"
        assert await one.client.pttl(one.keys.claim(UID)) > CLAIM_SECONDS * 500
        assert not await second.ledger.claim(UID)
        await second.ledger.release([])
        await first.ledger.release([UID, "unknown"])
        assert await second.ledger.claim(UID)


@pytest.mark.must_survive(31)
async def test_a_claim_lapses_with_who_held_it(world: World) -> None:
    await world.client.set(world.keys.claim(UID), "a replica that died", px=1000)
    assert not await world.ledger.claim(UID)
    await eventually(lambda: world.ledger.claim(UID), timeout=5)
    assert 0 < await world.client.pttl(world.keys.claim(UID)) <= CLAIM_SECONDS * 1000
