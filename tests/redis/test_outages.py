"""Redis is down, mute, or lost its data: every step waits, succeeds in the end, and is published once."""

import asyncio

import pytest

from jobcast.ledger.ledger import AT_ONCE, Answer
from jobcast.redis.connection import connect
from testbed.faultproxy import FaultProxy
from testbed.valkey import ValkeyServer
from tests.conftest import eventually
from tests.ledger.conftest import World, command, pauses_of_the_link, publish_later, world_on
from tests.valkeys.nodes import SlowLoader


@pytest.mark.must_survive(25)
async def test_a_step_whose_reply_was_lost_is_not_published_twice(valkey: ValkeyServer) -> None:
    async with (
        FaultProxy(valkey.port) as proxy,
        world_on(lambda: connect(f"redis://127.0.0.1:{proxy.port}/0")) as world,
    ):
        await world.publish("running", key="a")
        proxy.lose_reply_to(b"EVALSHA", always=True)
        publishing = [publish_later(world, "running", "completed", key="a", uid=str(number)) for number in range(10)]
        await eventually(lambda: proxy.lost >= 1)
        proxy.lose_no_more()
        published = await asyncio.gather(*publishing)
        assert Answer.ENDED in {one.answer for one in published}, (
            "the first attempt was published, and its reply was lost"
        )
        assert len(await world.stream()) == 21
        assert len(set(await world.ids())) == 21
        assert "unreachable" in world.data_losses


@pytest.mark.must_survive(25)
async def test_while_only_replies_to_steps_are_lost_nothing_is_listed_again_and_the_pause_grows(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe succeeds each time, which does not prove that Redis has recovered."""
    pauses = pauses_of_the_link(monkeypatch)
    async with (
        FaultProxy(valkey.port) as proxy,
        world_on(lambda: connect(f"redis://127.0.0.1:{proxy.port}/0")) as world,
    ):
        await world.publish("running", key="a")
        proxy.lose_reply_to(b"EVALSHA", always=True)
        publishing = publish_later(world, "running", "completed", key="a", version=11)
        await eventually(lambda: proxy.lost >= 5)
        assert world.data_losses == []
        assert not publishing.done()
        assert pauses == sorted(pauses)
        assert pauses[-1] >= 8 * pauses[0]
        proxy.lose_no_more()
        assert (await publishing).answer is Answer.ENDED
        assert world.data_losses == ["unreachable"]
        assert await world.stream() == ["running", "completed"]


async def test_an_outage_after_an_outage_is_probed_as_soon_as_the_first_one(
    own: World, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = pauses_of_the_link(monkeypatch)
    for version in (11, 12):
        own_valkey.stop(kill=True)
        publishing = publish_later(own, "running", key=str(version), version=version)
        before = len(pauses)
        await eventually(lambda: len(pauses) >= before + 3)  # noqa: B023 (awaited at once)
        own_valkey.start()
        await publishing
    assert pauses.count(min(pauses)) == 2


async def test_calls_cancelled_while_redis_is_down_leave_nothing_behind(own: World, own_valkey: ValkeyServer) -> None:
    """Ten minutes without Redis mean thousands of cancelled calls."""
    own_valkey.stop(kill=True)
    patient = publish_later(own, "completed")
    await eventually(lambda: own.ledger.is_down)
    for _ in range(20):
        impatient = [asyncio.create_task(own.ledger.claim(str(number))) for number in range(100)]
        await asyncio.sleep(0)
        for task in impatient:
            task.cancel()
        await asyncio.gather(*impatient, return_exceptions=True)
    await eventually(lambda: own.ledger.waiting == 1)
    own_valkey.start()
    assert (await patient).answer is Answer.PUBLISHED


async def test_a_question_about_many_rows_has_few_calls_waiting(own: World, own_valkey: ValkeyServer) -> None:
    uids = [f"job-{number}" for number in range(5_000)]
    own_valkey.stop(kill=True)
    asking = [asyncio.create_task(ask(uids)) for ask in (own.ledger.keep, own.ledger.recall)]
    await eventually(lambda: own.ledger.is_down)
    assert own.ledger.waiting <= 2 * AT_ONCE
    own_valkey.start()
    assert await asyncio.gather(*asking) == [None, {}]


@pytest.mark.must_survive(24)
async def test_a_bug_in_a_callback_does_not_end_the_batcher(own: World, own_valkey: ValkeyServer) -> None:
    mistakes: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(str(context["exception"])))

    def make_a_mistake() -> None:
        raise RuntimeError("ours")

    own.ledger._batcher._health._on_recovered = make_a_mistake
    await own.publish("running", uid="first")
    for number in range(2):
        own_valkey.stop()
        waiting = asyncio.create_task(own.publish("running", uid=f"uid-{number}"))
        await eventually(lambda: own.ledger.error)
        own_valkey.start()
        assert (await waiting).answer is Answer.PUBLISHED
    assert mistakes == ["ours", "ours"]


@pytest.mark.must_survive(24)
async def test_steps_wait_while_redis_is_down_and_all_are_taken_in_order(own: World, own_valkey: ValkeyServer) -> None:
    await own.publish("running", uid="before", key="a")
    own_valkey.stop(kill=True)

    async def live(uid: str) -> None:
        await own.publish("running", uid=uid, key="a")
        await own.publish("suspended", uid=uid, key="b", version=11)
        await own.publish("running", "completed", uid=uid, key="c", version=12)

    living = [asyncio.create_task(live(f"job-{number}")) for number in range(100)]
    await eventually(lambda: own.ledger.error)
    assert not any(task.done() for task in living)
    own_valkey.start()
    async with asyncio.timeout(60):
        await asyncio.gather(*living)
    by_job: dict[bytes, list[bytes]] = {}
    for _, fields in await own.client.xrange(own.keys.events):
        by_job.setdefault(fields[b"id"], []).append(fields[b"status"])
    assert len(by_job) == 400, "each its own id"
    statuses = await own.stream()
    assert [statuses.count(status) for status in ("running", "suspended", "completed")] == [200, 100, 100]
    assert "unreachable" in own.data_losses
    assert own.ledger.error is None
    assert own.errors[0] is None
    assert own.errors[-1] is None


@pytest.mark.must_survive(26)
async def test_after_a_restart_without_data_the_same_events_are_published_again(
    own: World, own_valkey: ValkeyServer
) -> None:
    await own.publish("running", "completed", key="a")
    ids = await own.ids()
    own_valkey.stop(kill=True)
    own_valkey.start()
    assert (await own.publish("running", "completed", key="a")).answer is Answer.PUBLISHED
    assert await own.ids() == ids
    assert own.data_losses[0] == "unreachable"


@pytest.mark.must_survive(27)
async def test_steps_wait_while_redis_loads_its_data(slow_loader: SlowLoader) -> None:
    async with world_on(lambda: connect(slow_loader.url)) as world:
        await world.publish("running", key="a")
        await asyncio.to_thread(slow_loader.restart_slowly)
        publishing = publish_later(world, "running", "completed", key="a", version=11)
        await eventually(lambda: "Redis is starting" in str(world.ledger.error))
        assert slow_loader.is_loading()
        assert not publishing.done()
        slow_loader.hurry()
        assert (await publishing).answer is Answer.PUBLISHED
        assert await world.stream() == ["running", "completed"]
        assert world.data_losses == ["unreachable"]


@pytest.mark.must_survive(27)
async def test_a_name_that_resolves_to_another_primary_is_followed_though_the_old_one_still_answers(
    own_valkey: ValkeyServer, valkey: ValkeyServer
) -> None:
    async with (
        FaultProxy(own_valkey.port) as name,
        world_on(lambda: connect(f"redis://127.0.0.1:{name.port}/0"), bare=lambda: connect(valkey.url)) as world,
    ):
        await world.publish("running", key="a")
        name.lead_to(valkey.port)
        await command(own_valkey, "REPLICAOF", "127.0.0.1", "1")
        async with asyncio.timeout(60):
            await world.publish("running", "completed", key="a", version=11)
        assert await world.stream() == ["running", "completed"]
        assert world.data_losses[0] == "unreachable"
