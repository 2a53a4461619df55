"""stream(): every entry to one of the group, at least once, resumed where it was."""

import asyncio
from typing import Any

import pytest

from jobcast.client import Refused
from jobcast.wire import encode
from testbed.valkey import ValkeyServer
from tests.client.conftest import World
from tests.client.subscribers import acked, take
from tests.client.telling import event
from tests.conftest import eventually

GROUP = "scoring"


async def pending(world: World) -> int:
    summary = await world.redis.xpending(world.keys.events, GROUP)
    return int(summary["pending"])


def ids(entries: list[Any]) -> list[str]:
    return [entry.event.eval_id for entry in entries]


@pytest.mark.must_survive(28)
async def test_a_subscriber_that_was_down_catches_up(world: World) -> None:
    told = [event("running"), event("completed"), event("failed", "43")]
    await world.teller.tell(*told[:2])
    async with world.join().stream(GROUP) as entries:
        await world.teller.tell(told[2])
        taken = await take(entries, 3)
        assert [entry.event for entry in taken] == told
        assert [entry.raw for entry in taken] == [encode(one) for one in told]
        assert [entry.is_redelivered for entry in taken] == [False] * 3


async def test_a_group_that_starts_at_the_end_gets_what_comes(world: World) -> None:
    await world.teller.tell(event("running"))
    async with world.join().stream(GROUP, start="$") as entries:
        await world.teller.tell(event("completed"))
        assert [entry.event.status for entry in await take(entries, 1)] == ["completed"]


async def test_an_existing_group_goes_on_where_it_was_whatever_start_says(world: World) -> None:
    await world.teller.tell(event("running"))
    async with world.join().stream(GROUP, "one") as entries:
        await acked((await take(entries, 1))[0])
    await world.teller.tell(event("completed"))
    async with world.join().stream(GROUP, "one", start="$") as entries:
        assert [entry.event.status for entry in await take(entries, 1)] == ["completed"]


async def test_an_entry_is_acknowledged_when_the_next_is_asked_for_and_not_before(world: World) -> None:
    await world.teller.tell(event("running"), event("completed"))
    async with world.join().stream(GROUP, batch=1) as entries:
        await take(entries, 1)
        assert await pending(world) == 1
        await take(entries, 1)
        assert await pending(world) == 1
    assert await pending(world) == 1, "leaving the loop acknowledges nothing"


async def test_what_a_body_failed_on_comes_again_first(world: World) -> None:
    await world.teller.tell(event("running"), event("completed"))
    with pytest.raises(ZeroDivisionError):
        async with world.join().stream(GROUP, "one") as entries:
            async for entry in entries:
                raise ZeroDivisionError(entry)
    async with world.join().stream(GROUP, "one") as entries:
        again = await take(entries, 2)
        # All of the batch that had been read is pending, and comes in its order.
        assert [(entry.event.status, entry.is_redelivered) for entry in again] == [
            ("running", True),
            ("completed", True),
        ]


async def test_ack_acknowledges_at_once_and_twice_is_safe(world: World) -> None:
    await world.teller.tell(event("running"), event("completed"))
    async with world.join().stream(GROUP, batch=1) as entries:
        (entry,) = await take(entries, 1)
        await acked(entry)
        await acked(entry)
        assert await pending(world) == 0
        await take(entries, 1)


async def test_without_auto_ack_nothing_but_ack_acknowledges(world: World) -> None:
    await world.teller.tell(*(event("running", str(i)) for i in range(4)))
    async with world.join().stream(GROUP, "one", auto_ack=False) as entries:
        taken = await take(entries, 4)
        assert ids(taken) == ["0", "1", "2", "3"]
        await acked(taken[2])
        assert await pending(world) == 3
    async with world.join().stream(GROUP, "one", auto_ack=False) as entries:
        assert ids(await take(entries, 3)) == ["0", "1", "3"]


async def test_two_consumers_of_a_group_share_the_work(world: World) -> None:
    async with world.join().stream(GROUP, batch=1) as one, world.join().stream(GROUP, batch=1) as two:
        await world.teller.tell(*(event("running", str(i)) for i in range(20)))
        first = await take(one, 10)
        second = await take(two, 10)
        assert sorted(ids(first) + ids(second), key=int) == [str(i) for i in range(20)]


async def test_two_groups_get_everything_each_and_a_slow_one_does_not_hold_up_the_other(world: World) -> None:
    async with world.join().stream("slow") as slow, world.join().stream("quick") as quick:
        await world.teller.tell(*(event("running", str(i)) for i in range(50)))
        await take(slow, 1)
        assert len(await take(quick, 50)) == 50
        assert len(await take(slow, 49)) == 49


async def test_entries_of_a_dead_consumer_are_claimed_after_a_while(world: World) -> None:
    await world.teller.tell(event("running"), event("completed"))
    async with world.join().stream(GROUP, "dead") as entries:
        await take(entries, 1)
    async with world.join().stream(GROUP, "alive", claim_after=0.2) as entries:
        claimed = await take(entries, 2)
        assert [(entry.event.status, entry.is_redelivered) for entry in claimed] == [
            ("running", True),
            ("completed", True),
        ]


async def test_a_batch_that_took_too_long_is_not_worked_on_by_two(world: World) -> None:
    await world.teller.tell(*(event("running", str(i)) for i in range(6)))
    slow = world.join().stream(GROUP, "slow", claim_after=0.4)
    quick = world.join().stream(GROUP, "quick", claim_after=0.4)
    async with slow, quick:
        assert ids(await take(slow, 1)) == ["0"]
        # The slow one sleeps over its batch until all of it counts as abandoned.
        claimed = ids(await take(quick, 6))
        assert claimed == ["0", "1", "2", "3", "4", "5"]
        await world.teller.tell(event("completed", "6"))
        assert ids(await take(slow, 1)) == ["6"], "what was claimed by another is not given from the old batch"


@pytest.mark.parametrize("rubbish", [{"event": b"{}"}, {"event": b"\xff"}, {"other": b"field"}])
async def test_an_entry_that_is_no_event_is_skipped_counted_and_not_kept_pending(
    world: World, rubbish: dict[str, bytes]
) -> None:
    await world.redis.xadd(world.keys.events, rubbish)
    await world.teller.tell(event("completed"))
    async with world.join().stream(GROUP) as entries:
        (entry,) = await take(entries, 1)
        assert entry.event == event("completed")
        assert entries.malformed == 1
        assert await pending(world) == 1, "only the one in hand"


async def test_a_pending_entry_that_the_retention_dropped_is_counted_and_let_go(world: World) -> None:
    await world.teller.tell(event("running"), event("completed"))
    async with world.join().stream(GROUP, "one") as entries:
        await take(entries, 1)
    await world.redis.xtrim(world.keys.events, maxlen=0, approximate=False)
    await world.teller.tell(event("running", "43"))
    async with world.join().stream(GROUP, "one") as entries:
        assert ids(await take(entries, 1)) == ["43"]
        assert entries.expired == 2
        assert await pending(world) == 1


async def test_a_flushed_redis_is_read_from_its_new_beginning(own_world: World) -> None:
    world = own_world  # fakeredis has another word for NOGROUP
    await world.teller.tell(event("running"))
    async with world.join().stream(GROUP, start="$") as entries:
        await world.teller.tell(event("completed"))
        await take(entries, 1)
        waiting = asyncio.create_task(take(entries, 2))
        await world.redis.flushall()
        await world.teller.tell(event("running"), event("completed"))
        assert [entry.event.status for entry in await waiting] == ["running", "completed"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"start": "1-0"}, "start='1-0'"),
        ({"batch": 0}, "batch=0"),
        ({"claim_after": 0}, "claim_after=0"),
        ({"claim_after": float("nan")}, "claim_after=nan"),
        ({"consumer": ""}, "must not be empty"),
    ],
)
async def test_arguments_that_make_no_sense_are_refused_at_once(
    world: World, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        world.join().stream(GROUP, **options)


async def test_a_stream_key_of_another_type_is_refused_and_not_retried_for_ever(world: World) -> None:
    await world.redis.set(world.keys.events, "somebody else's")
    with pytest.raises(Refused, match="WRONGTYPE"):
        async with world.join().stream(GROUP):
            pass


@pytest.mark.must_survive(28)
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
async def test_nothing_is_lost_over_a_restart_of_redis(
    own_persistent_world: World, persistent_valkey: ValkeyServer, kill: bool
) -> None:
    world, valkey = own_persistent_world, persistent_valkey
    async with world.join().stream(GROUP, batch=4) as entries:
        await world.teller.tell(*(event("running", str(i)) for i in range(10)))
        taken = await take(entries, 3)
        waiting = asyncio.create_task(take(entries, 17, timeout=60))
        valkey.stop(kill=kill)
        valkey.start()
        await world.teller.tell(*(event("running", str(i)) for i in range(10, 20)))
        taken += await waiting
        assert ids(taken) == [str(i) for i in range(20)], "nor is anything given twice, whose body had ended"


async def test_what_is_in_hand_is_not_given_again_after_a_restart_of_redis(
    own_persistent_world: World, persistent_valkey: ValkeyServer
) -> None:
    world, valkey = own_persistent_world, persistent_valkey
    async with world.join().stream(GROUP, auto_ack=False) as entries:
        await world.teller.tell(*(event("running", str(i)) for i in range(3)))
        taken = await take(entries, 3)
        waiting = asyncio.create_task(take(entries, 1, timeout=60))
        valkey.stop(kill=True)
        await eventually(lambda: entries.interruptions >= 1)
        valkey.start()
        await world.teller.tell(event("running", "3"))
        assert ids(await waiting) == ["3"]
        for entry in taken:
            await acked(entry)
        assert await pending(world) == 1


async def test_a_redis_that_restarted_empty_is_read_from_its_new_beginning(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    async with own_world.join().stream(GROUP) as entries:
        await own_world.teller.tell(event("running"))
        await take(entries, 1)
        waiting = asyncio.create_task(take(entries, 2, timeout=60))
        own_valkey.stop()
        own_valkey.start()
        await own_world.teller.tell(event("running"), event("completed"))
        assert [entry.event.status for entry in await waiting] == ["running", "completed"]


async def test_an_acknowledgement_waits_for_redis_to_come_back(
    own_persistent_world: World, persistent_valkey: ValkeyServer
) -> None:
    world, valkey = own_persistent_world, persistent_valkey
    await world.teller.tell(event("running"))
    async with world.join().stream(GROUP, auto_ack=False) as entries:
        (entry,) = await take(entries, 1)
        valkey.stop()
        acking = asyncio.create_task(_ack(entry, world.kind))
        await eventually(lambda: entries.interruptions >= 1)
        valkey.start()
        await asyncio.wait_for(acking, 20)
        assert await pending(world) == 0


async def _ack(entry: Any, kind: str) -> None:
    if kind == "plain":
        await asyncio.to_thread(entry.ack)
    else:
        await entry.ack()
