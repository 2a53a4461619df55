"""events(): what is told while somebody listens."""

import asyncio
import itertools
import signal

import pytest

from jobcast.client import subscription
from jobcast.event import Event
from jobcast.wire import encode
from testbed.valkey import ValkeyServer
from tests.client.conftest import World
from tests.client.subscribers import take
from tests.client.telling import BIRTH, event, progress
from tests.conftest import eventually


async def test_each_event_is_received_as_it_is_published(world: World) -> None:
    told = [event("running"), event("suspended"), event("completed"), event("failed", "43"), event("cancelled", "44")]
    async with world.join().events() as events:
        await world.teller.tell(*told)
        assert await take(events, 5) == told


async def test_only_the_statuses_asked_for_are_received(world: World) -> None:
    async with world.join().events("failed", "cancelled") as events:
        await world.teller.tell(event("running"), event("completed"), event("running", "43"), event("failed", "43"))
        await world.teller.tell(event("cancelled", "44"))
        assert [one.status for one in await take(events, 2)] == ["failed", "cancelled"]


async def test_a_status_that_does_not_exist_is_refused_at_once(world: World) -> None:
    with pytest.raises(ValueError, match="'finished' is not a status; use running, suspended, completed"):
        world.join().events("finished")


async def test_what_was_published_before_is_not_received(world: World) -> None:
    await world.teller.tell(event("running"))
    async with world.join().events() as events:
        await world.teller.tell(event("completed"))
        assert [one.status for one in await take(events, 1)] == ["completed"]


async def test_messages_that_are_not_events_are_skipped_and_counted(world: World) -> None:
    async with world.join().events() as events:
        for rubbish in (b"", b"{}", b"\xff\xfe", b'{"status":"archived"}', encode(event("running"))[:-1]):
            await world.redis.publish(world.keys.channel("running"), rubbish)
        await world.teller.tell(event("completed"))
        assert (await take(events, 1))[0] == event("completed")
        assert events.malformed == 5
        assert events.raw == encode(event("completed"))
        assert events.interruptions == 0


async def test_a_subscriber_that_reads_nothing_does_not_hold_up_the_others(world: World) -> None:
    told = [event("completed", str(i), output="x" * 10_000) for i in range(200)]
    async with world.join().events() as slow, world.join().events() as quick:
        await world.teller.tell(*told)
        assert await take(quick, 200) == told
        assert await take(slow, 200) == told, "nor does it lose what fits into the buffers"


async def test_progress_is_received_by_who_asks_for_it_in_the_order_in_which_it_is_published(world: World) -> None:
    first, last = progress("attempt-ended"), progress("main-ended", at=BIRTH + 1)
    async with world.join().events("running", "failed", progress=True) as everything, world.join().events() as events:
        await world.teller.tell(event("running"))
        await world.teller.tell_progress(first, last)
        await world.teller.tell(event("failed"))
        assert await take(everything, 4) == [event("running"), first, last, event("failed")]
        assert await take(events, 2) == [event("running"), event("failed")]
        assert (everything.malformed, events.malformed) == (0, 0)


async def test_a_message_on_the_channel_of_progress_that_is_none_is_skipped_and_counted(world: World) -> None:
    async with world.join().events(progress=True) as everything:
        await world.redis.publish(world.keys.progress, encode(event("running")))
        await world.redis.publish(world.keys.progress, b"rubbish")
        await world.redis.publish(world.keys.channel("running"), encode(progress("main-ended")))
        await world.teller.tell(event("running"))
        assert await take(everything, 1) == [event("running")]
        assert everything.malformed == 3
        assert everything.raw == encode(event("running"))


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
async def test_it_listens_again_after_a_restart_of_redis(
    own_world: World, own_valkey: ValkeyServer, kill: bool
) -> None:
    async with own_world.join().events() as events:
        await own_world.teller.tell(event("running"))
        assert await take(events, 1) == [event("running")]
        waiting = asyncio.create_task(take(events, 1, timeout=60))
        own_valkey.stop(kill=kill)
        own_valkey.start()
        assert (await _tell_until_heard(own_world, waiting)).status == "completed"
        assert events.interruptions >= 1


async def test_it_waits_for_a_redis_that_is_not_there_yet(own_world: World, own_valkey: ValkeyServer) -> None:
    own_valkey.stop()
    events = own_world.join().events()
    waiting = asyncio.create_task(take(events, 1, timeout=60))
    await eventually(lambda: events.interruptions >= 2)
    own_valkey.start()
    assert (await _tell_until_heard(own_world, waiting)).status == "completed"
    await events.aclose()


async def test_a_mute_connection_is_noticed_and_made_anew(
    own_world: World, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(subscription, "ANSWER_SECONDS", 0.3)
    assert own_valkey.process is not None
    async with own_world.join().events() as events:
        waiting = asyncio.create_task(take(events, 1, timeout=60))
        own_valkey.process.send_signal(signal.SIGSTOP)
        try:
            await eventually(lambda: events.interruptions >= 1)
        finally:
            own_valkey.process.send_signal(signal.SIGCONT)
        assert (await _tell_until_heard(own_world, waiting)).status == "completed"


async def test_quiet_is_not_taken_for_death(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "QUIET_SECONDS", 0.02)
    async with world.join().events() as events:
        waiting = asyncio.create_task(take(events, 1))
        await asyncio.sleep(0.3)  # many quiet whiles; there is no condition to wait for that would not need one
        await world.teller.tell(event("running"))
        assert await waiting == [event("running")]
        assert events.interruptions == 0


async def _tell_until_heard(world: World, waiting: "asyncio.Task[list[Event]]") -> Event:
    """What Redis calls a subscriber may be the one that was lost: redis-py makes a lost connection anew and subscribes
    it again before it says that it was lost, and then we leave it. So no count says when to tell."""
    for i in itertools.count():
        await world.teller.tell(event("completed", f"again-{i}"))
        if (await asyncio.wait([waiting], timeout=0.02))[0]:
            break
    return waiting.result()[0]
