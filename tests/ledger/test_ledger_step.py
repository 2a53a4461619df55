"""The ledger's step: publishes once and in order, for any replica, however often."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from jobcast.event import event_id
from jobcast.ledger.ledger import SCRIPT, Answer, StepResult
from tests.ledger.conftest import RETENTION, UID, World, world_on

OTHER = "another-uid"


async def test_what_is_new_is_published_on_channel_stream_and_record(world: World) -> None:
    assert await world.publish("running", key="t1") == StepResult(Answer.PUBLISHED, "running", 1)
    assert await world.received(1) == [("test:running", "running")]
    ((_, fields),) = await world.client.xrange(world.keys.events)
    assert fields == {
        b"id": event_id(UID, "running", "t1").encode(),
        b"status": b"running",
        b"eval_id": b"42",
        b"event": (await world.record())["event"].encode(),
    }
    row = await world.row()
    assert (row["status"], row["version"], row["uid"], row["namespace"]) == ("running", "10", UID, "evals")
    assert (await world.record())["status"] == "running"
    assert await world.ledger.open_uids() == [UID]


async def test_a_pending_job_is_recorded_and_nothing_is_published(world: World) -> None:
    assert await world.publish() == StepResult(Answer.SEEN, "pending", 0)
    assert await world.publish(version=11) == StepResult(Answer.DUPLICATE, "pending", 0)
    assert await world.received(0) == []
    assert await world.stream() == []
    assert await world.ledger.open_uids() == [UID]
    assert (await world.record())["status"] == "pending"


@pytest.mark.must_survive(25)
async def test_the_same_again_is_a_duplicate_and_changes_nothing(world: World) -> None:
    await world.publish("running", key="t1")
    before = await world.row()
    for version in (10, 99, 1):
        assert await world.publish("running", key="t1", version=version) == StepResult(Answer.DUPLICATE, "running", 0)
    assert await world.row() == before
    assert await world.received(1) == [("test:running", "running")]


@pytest.mark.must_survive(32)
async def test_what_is_older_than_what_was_published_is_stale(world: World) -> None:
    await world.publish("suspended", key="t2", version=20)
    assert await world.publish("running", key="t1", version=19) == StepResult(Answer.STALE, "suspended", 0)
    assert await world.stream() == ["suspended"]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_the_end_of_a_job_that_was_not_seen_running_brings_its_running_first(world: World, end: str) -> None:
    assert await world.publish("running", end, key="t1") == StepResult(Answer.PUBLISHED, end, 2)
    assert await world.stream() == ["running", end]
    assert await world.received(2) == [("test:running", "running"), (f"test:{end}", end)]


async def test_an_end_brings_no_running_that_was_published(world: World) -> None:
    await world.publish("running", key="t1")
    assert await world.publish("running", "completed", key="t1", version=11) == StepResult(
        Answer.PUBLISHED, "completed", 1
    )
    assert await world.stream() == ["running", "completed"]


@pytest.mark.parametrize("first", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize(
    "then", [("running",), ("running", "completed"), ("failed",), ("cancelled",), ("suspended",), ()]
)
async def test_nothing_follows_an_end(world: World, first: str, then: tuple[str, ...]) -> None:
    await world.publish(first)
    assert await world.publish(*then, key="new", version=999) == StepResult(Answer.ENDED, first, 0)
    assert await world.stream() == [first]
    assert await world.ledger.open_uids() == []


async def test_an_end_is_published_however_old_the_view_that_saw_it(world: World) -> None:
    # A Job that vanished while we looked away is known by its last version, and its end is final all the same.
    await world.publish("running", key="t1", version=20)
    assert (await world.publish("cancelled", version=5)).answer is Answer.PUBLISHED
    assert (await world.row())["version"] == "20"


async def test_suspended_and_running_alternate_each_time_with_a_new_id(world: World) -> None:
    for version, (status, key) in enumerate(
        [("suspended", "a"), ("running", "b"), ("suspended", "c"), ("running", "d"), ("completed", "")], start=10
    ):
        assert (await world.publish(status, key=key, version=version)).answer is Answer.PUBLISHED
    assert await world.stream() == ["suspended", "running", "suspended", "running", "completed"]
    assert len(set(await world.ids())) == 5


@pytest.mark.must_survive(32)
async def test_a_replica_that_lags_publishes_nothing(world: World) -> None:
    for version, (status, key) in enumerate([("running", "a"), ("suspended", "b"), ("running", "c")], start=10):
        await world.publish(status, key=key, version=version)
    assert (await world.publish("running", key="a", version=10)).answer is Answer.STALE
    assert (await world.publish("suspended", key="b", version=11)).answer is Answer.DUPLICATE
    assert (await world.publish("running", key="c", version=12)).answer is Answer.DUPLICATE
    assert await world.stream() == ["running", "suspended", "running"]


@pytest.mark.must_survive(32)
async def test_a_replica_that_lags_behind_brings_no_older_running_with_an_end(world: World) -> None:
    # Its list shows that the Job is gone, and it remembers it from before it was suspended and resumed.
    await world.publish("running", key="a", version=10)
    await world.publish("suspended", key="b", version=11)
    await world.publish("running", key="c", version=12)
    assert await world.publish("running", "cancelled", key="a", version=10) == StepResult(
        Answer.PUBLISHED, "cancelled", 1
    )
    assert await world.stream() == ["running", "suspended", "running", "cancelled"]


async def test_a_replica_that_lags_behind_may_be_the_only_one_that_saw_it_run(world: World) -> None:
    await world.publish(version=20)
    assert (await world.publish("running", "cancelled", key="a", version=10)).count == 2


@pytest.mark.parametrize(
    ("published", "lower", "higher"), [(9, 8, 10), (2**53 - 2, 2**53 - 3, 2**53 - 1), (10**10, 9, 10**11)]
)
async def test_versions_are_compared_as_integers(world: World, published: int, lower: int, higher: int) -> None:
    await world.publish("suspended", key="a", version=published)
    assert (await world.row())["version"] == str(published)
    assert (await world.publish("running", key="b", version=lower)).answer is Answer.STALE
    assert (await world.publish("running", key="b", version=higher)).answer is Answer.PUBLISHED
    assert (await world.row())["version"] == str(higher)


@pytest.mark.must_survive(15)
async def test_a_name_that_is_used_again_is_another_job(world: World) -> None:
    await world.publish("completed", name="same")
    assert (await world.publish("running", uid=OTHER, name="same", created=2000.0)).answer is Answer.PUBLISHED


async def test_the_newest_job_of_an_evaluation_is_its_record(world: World) -> None:
    await world.publish("running", created=1000.0)
    await world.publish("running", uid=OTHER, created=2000.0)
    assert (await world.record())["uid"] == OTHER
    await world.publish("completed", created=1000.0, version=11)
    record = await world.record()
    assert (record["uid"], record["status"]) == (OTHER, "running")
    assert await world.client.ttl(world.keys.evaluation("42")) == -1, "its newest Job has not ended"
    assert (await world.row())["status"] == "completed"


async def test_a_newer_job_leaves_nothing_of_the_older_in_the_record(world: World) -> None:
    await world.publish("completed", created=1000.0)
    await world.publish(uid=OTHER, created=2000.0)
    record = await world.record()
    assert (record["uid"], record["status"]) == (OTHER, "pending")
    assert "event" not in record
    assert await world.client.ttl(world.keys.evaluation("42")) == -1


async def test_rows_and_records_expire_after_the_end_and_not_before(world: World) -> None:
    names = (world.keys.job(UID), world.keys.evaluation("42"))
    await world.publish("running", key="a")
    assert [await world.client.ttl(name) for name in names] == [-1, -1]
    await world.publish("completed", version=11)
    left = [await world.client.ttl(name) for name in names]
    assert RETENTION - 5 <= min(left) <= max(left) <= RETENTION
    await world.client.expire(world.keys.job(UID), 5)
    await world.ledger.keep([UID, "unknown"])
    assert await world.client.ttl(world.keys.job(UID)) > 5


async def test_the_open_jobs_are_those_without_an_end(world: World) -> None:
    await world.publish(uid="pending")
    await world.publish("running", uid="running", key="a")
    await world.publish("failed", uid="failed")
    await world.publish("suspended", uid="suspended", key="a")
    assert sorted(await world.ledger.open_uids()) == ["pending", "running", "suspended"]
    await world.publish("cancelled", uid="running")
    assert sorted(await world.ledger.open_uids()) == ["pending", "suspended"]


async def test_rows_can_be_read_back(world: World) -> None:
    await world.publish("running", key="a", version=2**53 - 1, created=1234.5)
    row = await world.ledger.row(UID)
    assert row is not None
    assert (row.uid, row.status, row.version, row.created) == (UID, "running", 2**53 - 1, 1234.5)
    assert (row.eval_id, row.namespace, row.is_ended) == ("42", "evals", False)
    assert await world.ledger.row("unknown") is None


async def test_what_was_published_last_can_be_recalled(world: World) -> None:
    await world.publish(uid="pending")
    await world.publish("running", uid="running", key="a")
    await world.publish("suspended", uid="suspended", key="b")
    await world.publish("running", "completed", uid="ended", key="a")
    found = await world.ledger.recall(["pending", "running", "suspended", "ended", "unknown"])
    assert {uid: one.last_published for uid, one in found.items()} == {
        "pending": "pending",
        "running": event_id("running", "running", "a"),
        "suspended": event_id("suspended", "suspended", "b"),
        "ended": "ended",
    }


@pytest.mark.must_survive(26)
async def test_a_script_that_redis_forgot_is_loaded_again(world: World) -> None:
    await world.publish("running", key="a")
    await world.client.script_flush()
    results = await asyncio.gather(*(world.publish("completed", uid=str(number)) for number in range(20)))
    assert {published.answer for published in results} == {Answer.PUBLISHED}
    assert len(await world.stream()) == 21
    assert (world.errors, world.data_losses) == ([None], [])


async def test_many_steps_at_the_same_time_share_the_way_and_keep_their_own_order(world: World) -> None:
    async def live(uid: str) -> None:
        await world.publish(uid=uid)
        await world.publish("running", uid=uid, key="a", version=11)
        await world.publish("completed", uid=uid, version=12)

    await asyncio.gather(*(live(f"job-{number}") for number in range(300)))
    entries = [fields for _, fields in await world.client.xrange(world.keys.events)]
    assert len(entries) == 600
    assert len(set(await world.ids())) == 600
    assert await world.ledger.open_uids() == []


@pytest.mark.must_survive(32)
async def test_of_many_that_publish_the_same_one_does(world: World) -> None:
    answers = await asyncio.gather(*(world.publish("running", key="a") for _ in range(50)))
    assert sorted(published.answer for published in answers) == ["duplicate"] * 49 + ["published"]
    assert await world.stream() == ["running"]


async def test_who_gave_up_waiting_is_passed_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, pipe = asyncio.Event(), world.ledger._batcher._pipeline
    exchange = pipe.exchange

    async def slow(commands: Any) -> list[Any]:
        await let_go.wait()
        return await exchange(commands)

    monkeypatch.setattr(pipe, "exchange", slow)
    first = asyncio.create_task(world.publish("completed", uid="first"))
    tasks = [asyncio.create_task(world.publish("completed", uid=str(number))) for number in range(5)]
    await asyncio.sleep(0)
    for task in tasks[:3]:
        task.cancel()
    let_go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True] * 3 + [False] * 2
    assert (await first).answer is Answer.PUBLISHED
    assert (await world.publish("completed", uid="later")).answer is Answer.PUBLISHED


@pytest.mark.parametrize("turns", range(8))
async def test_every_call_that_waits_when_the_ledger_closes_ends(make_client: Callable[[], Any], turns: int) -> None:
    async with world_on(make_client) as one:
        tasks = [asyncio.create_task(one.publish("completed", uid=str(number))) for number in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks, return_exceptions=True)
    del one
    gc.collect()  # a connection left open would be complained about here


async def test_any_evaluation_id_is_its_own(world: World) -> None:
    odd = ["", "a}b", "{x}", "é\n\0", "x" * 1000, "*"]
    for number, eval_id in enumerate(odd):
        await world.publish("completed", uid=str(number), eval_id=eval_id)
    assert [(await world.record(eval_id))["uid"] for eval_id in odd] == [str(n) for n in range(len(odd))]


def test_the_script_reads_no_clock_and_no_random() -> None:
    assert "TIME" not in SCRIPT.replace("RETENTION", "")
    assert "random" not in SCRIPT.replace("-- ", "").split("local TERMINAL")[1]
