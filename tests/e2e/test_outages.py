"""What is published when Jobcast itself, or half of it, was not there."""

import asyncio

import pytest
import redis

from testbed.valkey import ValkeyServer
from tests.api import Api, evaluation
from tests.conftest import eventually
from tests.parts import TERMINAL, Parts, Told

MANY = 200


@pytest.mark.must_survive(31, 32)
async def test_two_controllers_a_sweep_and_a_kill_publish_each_fact_once(
    cluster: Api, parts: Parts, published: Told
) -> None:
    first = await parts.controller()
    await parts.controller()
    await parts.worker(SWEEP_SECONDS="2")
    slots = asyncio.Semaphore(12)

    async def create(number: int) -> str:
        async with slots:  # until it has ended: other tests run on the same node
            command = f"echo {number}; exit {number % 4 // 3}"
            created = await cluster.create(evaluation(f"many-{number}", command))
            await cluster.ended(f"many-{number}")
            return str(created["metadata"]["uid"])

    creating = asyncio.gather(*(create(number) for number in range(MANY)))
    await eventually(lambda: len(published.heard) > MANY // 4, 120)
    first.kill()
    uids = await creating
    await parts.controller()

    async def all_have_ended() -> bool:
        statuses = await published.statuses()
        return sum(bool(TERMINAL & set(statuses[uid])) for uid in uids) == MANY

    await eventually(all_have_ended, 240, 0.5)
    statuses = await published.statuses()
    wrong = {
        uid: told_ for uid, told_ in statuses.items() if told_ not in (["running", "completed"], ["running", "failed"])
    }
    assert wrong == {}
    assert sorted(statuses) == sorted(uids)
    stream = await published.stream()
    assert len({event["id"] for event in stream}) == len(stream) == 2 * MANY
    for event in stream:
        if event["status"] in TERMINAL:
            number = int(event["eval_id"].removeprefix("many-"))
            assert (event["exit_code"], event["output"]) == (number % 4 // 3, f"{number}\n"), event


async def test_with_the_controller_off_the_sweep_alone_publishes_everything(
    cluster: Api, parts: Parts, published: Told
) -> None:
    await parts.worker(SWEEP_SECONDS="1")
    await cluster.create(evaluation("good", """echo '{"score": 0.5}'"""))
    await cluster.create(evaluation("bad", "exit 3"))
    await cluster.create(evaluation("gone", "sleep 300"))
    await eventually(lambda: published.of("gone"), 60)
    await cluster.delete(f"{cluster.jobs}/gone")
    good, bad, gone = [await published.end_of(name) for name in ("good", "bad", "gone")]
    assert (good["status"], good["output"], good["exit_code"]) == ("completed", '{"score": 0.5}\n', 0)
    assert (bad["status"], bad["reason"], bad["exit_code"]) == ("failed", "BackoffLimitExceeded", 3)
    assert gone["status"] == "cancelled"
    statuses = sorted((await published.statuses()).values())
    assert statuses == [["running", "cancelled"], ["running", "completed"], ["running", "failed"]]


@pytest.mark.must_survive(9, 10)
async def test_what_happened_while_no_replica_ran_is_published_once_after_the_start(
    cluster: Api, parts: Parts, published: Told
) -> None:
    controller = await parts.controller()
    await cluster.create(evaluation("early", "echo early"))
    await published.end_of("early")
    await cluster.create(evaluation("gone", "sleep 300"))
    await eventually(lambda: published.of("gone"), 60)
    assert controller.stop() == 0
    await cluster.delete(f"{cluster.jobs}/gone")
    await cluster.create(evaluation("missed", "echo missed; exit 5"))
    await cluster.ended("missed")
    assert published.of("missed") == []
    await parts.controller()
    assert (await published.end_of("gone"))["status"] == "cancelled"
    end = await published.end_of("missed")
    assert (end["exit_code"], end["output"]) == (5, "missed\n")
    statuses = sorted((await published.statuses()).values())
    assert statuses == [["running", "cancelled"], ["running", "completed"], ["running", "failed"]]


@pytest.mark.must_survive(24)
async def test_what_ends_while_redis_is_down_is_published_when_it_works_again(
    cluster: Api, parts: Parts, own_valkey: ValkeyServer
) -> None:
    controller = await parts.controller()
    own_valkey.stop(kill=True)
    await cluster.create(evaluation("meanwhile", "echo meanwhile"))
    await cluster.ended("meanwhile")
    assert not controller.answers("/readyz")
    assert controller.answers("/livez")
    own_valkey.start()
    async with Told(own_valkey.url) as published:

        async def is_told() -> bool:
            return list((await published.statuses()).values()) == [["running", "completed"]]

        await eventually(is_told, 20)
        assert (await published.stream())[-1]["output"] == "meanwhile\n"
    await eventually(lambda: controller.answers("/readyz"), 10)


async def test_a_handler_of_the_worker_gets_what_the_controller_published(
    cluster: Api, parts: Parts, published: Told, own_valkey: ValkeyServer
) -> None:
    await parts.controller()
    await parts.worker(HANDLERS="demo.handlers", SWEEP_SECONDS="0")
    await cluster.create(evaluation("scored", """echo '{"score": 0.25}'"""))
    await published.end_of("scored")
    with redis.Redis.from_url(own_valkey.url, decode_responses=True) as client:
        assert await eventually(lambda: client.hget("demo:scores", "scored"), 20) == "0.25"
        (group,) = await eventually(lambda: client.xinfo_groups("{evaluation}:events"))
        await eventually(lambda: client.xinfo_groups("{evaluation}:events")[0]["pending"] == 0)
        assert group["name"] == "worker"
