"""What a reconciler does between a Job's statuses: progress, its record, its logs, the finalizer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fakeredis
import pytest

from jobcast.event import Event
from jobcast.jobs.model import FINALIZER, Job
from jobcast.keys import Keys
from jobcast.kube import Forbidden
from jobcast.ledger.ledger import Ledger, Step
from jobcast.reconcile.reconciler import DONE, Hooks
from tests.conftest import eventually
from tests.logs.room import Words
from tests.unit.objects import (
    ENDED,
    STARTED,
    UID,
    condition,
    container_json,
    ended_state,
    job,
    pod,
    running_state,
    waiting_state,
)
from tests.unit.test_reconcile import COMPLETE, World

LATER = "2026-11-20T10:05:00Z"
SPEC = {"completions": 1, "backoffLimit": 2}
HELD = {"finalizers": [FINALIZER]}


def open_job(version: int = 100, **fields: Any) -> Job:
    return job(startTime=STARTED, ready=1, spec=SPEC, version=version, **fields)


@asynccontextmanager
async def make_world(**options: Any) -> AsyncIterator[World]:
    client = fakeredis.FakeAsyncRedis()
    async with Ledger(client, Keys("test")) as ledger:
        one = World(ledger, client, **options)
        async with one.logs:
            yield one
    await client.aclose()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with make_world() as one:
        yield one


async def record(world: World) -> dict[str, Any]:
    found = await world.client.hgetall(world.ledger.keys.evaluation("42"))
    return {name.decode(): value.decode() for name, value in found.items()}


async def test_each_failed_attempt_is_published_once_and_is_in_the_record(world: World) -> None:
    async with world.client.pubsub() as pubsub:
        await pubsub.subscribe(world.ledger.keys.progress)
        await pubsub.get_message(timeout=1)
        world.source.answers["first"] = [b"oops"]
        world.store.put_job(open_job())
        world.store.put_pod(pod(running_state(), name="first"))
        await world.reconciler.reconcile(UID)
        world.store.put_pod(pod(ended_state(3, reason="Error"), name="first", phase="Failed"))
        world.store.put_job(open_job(version=101, failed=1))
        for _ in range(3):
            assert (await world.reconciler.reconcile(UID)).published == ()
        message = await pubsub.get_message(timeout=1)
        published = json.loads(message["data"])
        assert (published["kind"], published["status"], published["attempt"]["exit_code"]) == (
            "attempt-ended",
            "running",
            3,
        )
        assert await pubsub.get_message(timeout=0.01) is None
    (attempt,) = json.loads((await record(world))["attempts"])
    assert (attempt["pod"], attempt["exit_code"], attempt["reason"]) == ("first", 3, "Error")
    assert await world.published() == ["running"]


async def test_why_a_job_waits_is_in_the_record_while_it_does(world: World) -> None:
    world.store.put_job(job(startTime=STARTED, active=1))
    world.store.put_pod(pod(waiting_state("ContainerCreating")))
    assert await world.reconciler.reconcile(UID) == DONE
    assert "waiting" not in await record(world)
    world.store.put_pod(pod(waiting_state("ErrImagePull")))
    await world.reconciler.reconcile(UID)
    assert json.loads((await record(world))["waiting"])["reason"] == "ErrImagePull"
    world.store.put_pod(pod(running_state()))
    await world.reconciler.reconcile(UID)
    assert "waiting" not in await record(world)
    assert (await record(world))["status"] == "running"


@pytest.mark.must_survive(9)
async def test_a_job_that_vanished_after_its_pod_had_done_well_is_completed(world: World) -> None:
    world.store.put_job(open_job())
    world.store.put_pod(pod(ended_state(), phase="Succeeded"))
    await world.reconciler.reconcile(UID)
    world.store.remove_job(UID)
    await world.until_published()
    assert await world.published() == ["running", "completed"]
    (_, (_, fields)) = await world.client.xrange(world.ledger.keys.events)
    event = json.loads(fields[b"event"])
    assert (event["exit_code"], event["reason"], event["output"]) == (0, None, "what it said")
    assert len(event["warnings"]) == 1
    assert event["time"] == ENDED


async def test_a_job_that_merely_lost_its_label_has_no_end_although_its_pod_has(world: World) -> None:
    world.store.put_job(open_job())
    world.store.put_pod(pod(ended_state(), phase="Succeeded"))
    await world.reconciler.reconcile(UID)
    world.store.remove_job(UID)
    world.cluster.jobs["eval-42"] = open_job()
    assert await world.reconciler.reconcile(UID) == DONE
    assert await world.published() == ["running"]


# Logs.


async def test_the_former_instance_of_a_restarted_container_is_read(world: World) -> None:
    whole = container_json(running_state(LATER), restartCount=1, lastState=ended_state(3))
    world.store.put_job(open_job())
    world.store.put_pod(pod(containers=[whole], phase="Running"))
    await world.reconciler.reconcile(UID)
    await eventually(lambda: world.done)
    assert world.source.asked == [("main", True)]
    over = container_json(ended_state(finished=LATER), restartCount=1, lastState=ended_state(3))
    world.store.put_pod(pod(containers=[over], phase="Succeeded"))
    world.store.put_job(COMPLETE)
    await world.until_published()
    assert world.source.asked == [("main", True), ("main", False)]
    event = json.loads((await world.client.xrange(world.ledger.keys.events))[-1][1][b"event"])
    assert [(log["source"], log["instance"]) for log in event["attempts"][0]["logs"]] == [
        ("eval-42-abcde/main", 1),
        ("eval-42-abcde/main", 0),
    ]
    assert event["log"]["instance"] == 1


@pytest.mark.parametrize(("code", "everything", "asked"), [(0, False, 1), (1, False, 3), (0, True, 3)])
async def test_what_stood_beside_the_main_container_is_read_when_it_failed_or_by_setting(
    code: int, everything: bool, asked: int
) -> None:
    async with make_world(all_logs=everything) as world:
        phase = "Failed" if code else "Succeeded"
        both = [container_json(ended_state(code)), container_json(ended_state(), name="proxy")]
        inits = [container_json(ended_state(), name="fetch")]
        world.store.put_job(open_job())
        names = ("main", "proxy")
        world.store.put_pod(pod(containers=both, initContainerStatuses=inits, phase=phase, names=names))
        await world.reconciler.reconcile(UID)
        await eventually(lambda: len(world.done) == asked)
        assert {name for name, _ in world.source.asked} == ({"main", "proxy", "fetch"} if asked == 3 else {"main"})


async def test_an_init_container_that_failed_is_the_jobs_output(world: World) -> None:
    init = container_json(ended_state(7), name="fetch")
    main = container_json(waiting_state("PodInitializing"))
    failed = condition("Failed", reason="BackoffLimitExceeded")
    world.store.put_job(job(startTime=STARTED, version=101, conditions=[failed], failed=1))
    world.store.put_pod(pod(containers=[main], initContainerStatuses=[init], phase="Failed"))
    await world.until_published()
    assert await world.published() == ["failed"], "its main container never ran"
    event = json.loads((await world.client.xrange(world.ledger.keys.events))[-1][1][b"event"])
    assert (event["exit_code"], event["container"], event["role"]) == (7, "fetch", "init")
    assert (event["output"], event["log"]["source"]) == ("what it said", "eval-42-abcde/fetch")


@pytest.mark.must_survive(19)
async def test_the_last_word_of_a_container_stands_in_for_a_log_that_is_gone(world: World) -> None:
    world.source.answers["eval-42-abcde"] = [[Words(b"unable to retrieve container logs for x")]]
    world.store.put_job(COMPLETE)
    world.store.put_pod(pod(ended_state(message="score 0.5")))
    await world.until_published()
    event = json.loads((await world.client.xrange(world.ledger.keys.events))[-1][1][b"event"])
    assert (event["output"], event["metadata"]["log_source"]) == ("score 0.5", "termination-message")
    assert (event["log"]["state"], event["log"]["reason"]) == ("unavailable", "container-gone")


@pytest.mark.must_survive(19, 20)
async def test_the_log_of_an_init_container_is_read_while_it_waits_to_be_restarted(world: World) -> None:
    world.store.put_job(job(startTime=STARTED, active=1, spec=SPEC))
    init = container_json(ended_state(7, reason="Error"), name="fetch")
    world.store.put_pod(
        pod(containers=[container_json(waiting_state())], initContainerStatuses=[init], restart_policy="OnFailure")
    )
    for _ in range(2):
        await world.reconciler.reconcile(UID)
    await eventually(lambda: world.done, 5)
    assert (world.source.tries, await world.published()) == (["eval-42-abcde"], [])


@pytest.mark.must_survive(19)
async def test_a_pod_that_ran_and_never_showed_its_end_is_gone_with_its_log(world: World) -> None:
    gone = pod(running_state(), phase="Failed", conditions=[condition("DisruptionTarget", reason="DeletionByPodGC")])
    world.store.put_job(open_job())
    world.store.put_pod(gone)
    await world.reconciler.reconcile(UID)
    world.store.remove_pod(gone)
    world.store.put_job(job(startTime=STARTED, conditions=[condition("Failed")], failed=1, version=101))
    await world.until_published()
    event = json.loads((await world.client.xrange(world.ledger.keys.events))[-1][1][b"event"])
    assert (event["exit_code"], event["log"]["reason"]) == (None, "pod-gone")


# The finalizer.


async def test_a_job_is_held_once_and_released_when_its_end_is_published() -> None:
    async with make_world(holds=True) as world:
        world.store.put_job(open_job())
        for _ in range(3):  # the watch may not show the finalizer yet
            await world.reconciler.reconcile(UID)
        assert world.cluster.held == [UID]
        done = job(startTime=STARTED, version=102, conditions=[condition("Complete")], meta=HELD)
        world.store.put_job(done)
        await world.until_published()
        assert (world.cluster.held, await world.published()) == ([], ["running", "completed"])


async def test_a_job_that_ended_or_is_going_is_not_held_any_more() -> None:
    async with make_world(holds=True) as world:
        world.store.put_job(open_job(deleted=LATER))
        await world.reconciler.reconcile(UID)
        world.store.put_job(job(uid="other", startTime=STARTED, conditions=[condition("Complete")]))
        await world.reconciler.reconcile("other")
        assert world.cluster.held == []


async def test_a_held_job_is_released_although_no_jobs_are_held_any_more(world: World) -> None:
    world.cluster.held = [UID]
    world.store.put_job(open_job(deleted=LATER, meta=HELD))
    await world.reconciler.reconcile(UID)
    assert (world.cluster.held, await world.published()) == ([], ["running", "cancelled"])


async def test_a_job_that_cannot_be_held_is_published_all_the_same() -> None:
    refused: list[str] = []
    async with make_world(holds=True, hooks=Hooks(cannot_hold=lambda job, error: refused.append(str(error)))) as world:
        world.cluster.refusal = Forbidden("no patch on jobs", code=403)
        world.store.put_job(open_job())
        await world.reconciler.reconcile(UID)
        assert (await world.published(), refused) == (["running"], ["no patch on jobs"])


@pytest.mark.must_survive(31)
async def test_a_release_that_failed_is_retried_and_nothing_is_published_twice(world: World) -> None:
    world.cluster.held, world.cluster.refusal = [UID], Forbidden("not now", code=403)
    world.store.put_job(open_job(deleted=LATER, meta=HELD))
    for _ in range(2):
        with pytest.raises(Forbidden):
            await world.reconciler.reconcile(UID)
    world.cluster.refusal = None
    assert await world.reconciler.reconcile(UID) == DONE
    assert (world.cluster.held, await world.published()) == ([], ["running", "cancelled"])
    await asyncio.sleep(0)


async def test_the_hook_gets_what_is_published_also_where_something_fails_after_it() -> None:
    published: list[Event] = []
    async with make_world(hooks=Hooks(published=published.append)) as world:
        world.cluster.refusal = Forbidden("no patch")
        world.store.put_job(job(meta=HELD, startTime=STARTED, conditions=[condition("Complete")], succeeded=1))
        with pytest.raises(Forbidden):
            await world.until_published()
        assert [event.status for event in published] == await world.published() == ["running", "completed"]


async def test_a_pending_job_whose_end_another_replica_published_is_let_go_of(world: World) -> None:
    end = Step(uid=UID, version=101, created=1, eval_id="42", namespace="evals", name="eval-42", status="completed")
    await world.ledger.step(end)
    init = container_json(ended_state(7, reason="Error"), name="fetch")
    world.store.put_job(job(startTime=STARTED, active=1, spec=SPEC))
    world.store.put_pod(pod(containers=[container_json(waiting_state())], initContainerStatuses=[init]))
    assert await world.reconciler.reconcile(UID) == DONE
    assert (world.store.job(UID), world.source.tries) == (None, []), "no log is read for it any more"
    assert world.reconciler.is_ended(UID)


async def test_of_a_job_whose_end_is_published_no_record_is_kept(world: World) -> None:
    world.store.put_job(COMPLETE)
    world.store.put_pod(pod(ended_state()))
    await world.until_published()
    assert world.reconciler.is_ended(UID)
    assert not any(value for value in vars(world.reconciler).values() if isinstance(value, dict))
