"""wait(): the end, whenever it is told."""

import asyncio
from typing import Any

import pytest

from jobcast.client import waiting
from jobcast.redis.connection import connect
from jobcast.wire import MalformedEvent, encode
from testbed.valkey import ValkeyServer
from tests.client.conftest import World
from tests.client.telling import BIRTH, event
from tests.conftest import eventually

ENDS = ["completed", "failed", "cancelled"]


async def waiters(world: World) -> int:
    ((_, count),) = await world.redis.pubsub_numsub(world.keys.channel("completed"))
    return int(count)


async def waiting_for(world: World, *arguments: Any) -> "asyncio.Task[Any]":
    """A wait that has subscribed."""
    task = asyncio.create_task(world.join().wait(*arguments))
    await eventually(lambda: waiters(world))
    return task


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_that_happened_before_is_returned(world: World, end: str) -> None:
    await world.teller.tell(event("running"), event(end))
    assert await world.join().wait("42", 10) == event(end)


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_that_happens_after_is_returned(world: World, end: str) -> None:
    await world.teller.tell(event("running"))
    wait = await waiting_for(world, "42", 10)
    await world.teller.tell(event("completed", "another"), event(end))
    assert await wait == event(end)


async def test_an_end_between_the_subscription_and_the_reading_is_returned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is read as it was before the end; only the message can tell."""
    read = waiting.read_many
    subscribed, told = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def read_early(*arguments: Any) -> Any:
        record = yield from read(*arguments)
        loop.call_soon_threadsafe(subscribed.set)
        if world.kind == "plain":
            asyncio.run_coroutine_threadsafe(told.wait(), loop).result(10)
        return record

    monkeypatch.setattr(waiting, "read_many", read_early)
    wait = asyncio.create_task(world.join().wait("42", 10))
    await asyncio.wait_for(subscribed.wait(), 10)
    await world.teller.tell(event("completed"))
    told.set()
    assert await wait == event("completed")


async def test_an_end_whose_message_was_lost_is_found_in_the_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "REREAD_SECONDS", 0.05)
    wait = await waiting_for(world, "42", 10)
    fields = {"status": "failed", "uid": "u", "event": encode(event("failed"))}
    await world.redis.hset(world.keys.evaluation("42"), mapping=fields)  # recorded, and nobody was told
    assert await wait == event("failed")


async def test_an_end_is_returned_though_its_record_is_gone(world: World) -> None:
    wait = await waiting_for(world, "42", 10)
    await world.redis.publish(world.keys.channel("completed"), encode(event("completed")))
    assert await wait == event("completed")


async def test_an_unknown_evaluation_is_waited_for(world: World) -> None:
    wait = await waiting_for(world, "42", 10)
    await world.teller.tell(event("running"), event("completed"))
    assert await wait == event("completed")


async def test_running_and_suspended_are_no_end(world: World) -> None:
    await world.teller.tell(event("running"), event("suspended"))
    with pytest.raises(TimeoutError, match=r"'42' is not known to have ended after 0\.1 s"):
        await world.join().wait("42", 0.1)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_without_time_it_still_looks_once(world: World, timeout: float) -> None:
    jobcast = world.join()
    with pytest.raises(TimeoutError):
        await jobcast.wait("42", timeout)
    await world.teller.tell(event("completed"))
    assert await jobcast.wait("42", timeout) == event("completed")


async def test_the_end_of_a_former_job_does_not_end_an_evaluation_that_is_tried_again(world: World) -> None:
    await world.teller.tell(event("running", uid="first"))
    await world.teller.tell(event("running", uid="second"), created=BIRTH + 1)
    wait = await waiting_for(world, "42", 10)
    await world.teller.tell(event("failed", uid="first"))
    done, _ = await asyncio.wait([wait], timeout=0.2)
    assert not done
    await world.teller.tell(event("completed", uid="second"), created=BIRTH + 1)
    assert (await wait).job.uid == "second"


async def test_an_end_that_this_version_cannot_read_is_said_to_be_so(world: World) -> None:
    await world.redis.hset(world.keys.evaluation("42"), mapping={"status": "completed", "uid": "u", "event": b"{}"})
    with pytest.raises(MalformedEvent, match="'42' has ended"):
        await world.join().wait("42", 10)


async def test_rubbish_on_the_channel_does_not_disturb_it(world: World) -> None:
    wait = await waiting_for(world, "42", 10)
    for rubbish in (b"", b"{}", b"\xff", b'{"eval_id":"42"}', b'{"eval_id":42}'):
        await world.redis.publish(world.keys.channel("completed"), rubbish)
    await world.teller.tell(event("completed"))
    assert await wait == event("completed")


async def test_many_wait_for_many_at_once(world: World) -> None:
    jobcast = world.join()
    waits = [asyncio.create_task(jobcast.wait(str(i), 20)) for i in range(12)]
    for i in reversed(range(12)):
        await world.teller.tell(event("completed", str(i)))
    assert [end.eval_id for end in await asyncio.gather(*waits)] == [str(i) for i in range(12)]


async def test_an_end_published_while_the_connection_is_down_is_returned(
    own_persistent_world: World, persistent_valkey: ValkeyServer
) -> None:
    world, valkey = own_persistent_world, persistent_valkey
    wait = await waiting_for(world, "42", 30)
    valkey.stop(kill=True)
    valkey.start()
    # Whether or not it has subscribed again by now: the record tells.
    await world.teller.tell(event("completed"))
    assert await wait == event("completed")


async def test_an_end_published_while_only_the_subscriber_is_cut_off_is_returned(
    valkey: ValkeyServer, world: World
) -> None:
    wait = await waiting_for(world, "42", 30)
    admin = connect(valkey.url)
    await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await admin.aclose()
    await world.teller.tell(event("completed"))
    assert await wait == event("completed")


async def test_it_waits_for_a_redis_that_is_down_and_gives_up_in_time(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    own_valkey.stop()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        await own_world.join().wait("42", 0.3)
    assert loop.time() - began < 5
    wait = asyncio.create_task(own_world.join().wait("42", 20))
    own_valkey.start()
    await own_world.teller.tell(event("completed"))
    assert await wait == event("completed")
