"""What belongs together: the Pods of a start, and the events of an evaluation, also across restarts of the controller."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from controller.namespace import JobStore
from controller.workqueue import Workqueue
from jobcast.kube import Change, Forbidden, KubeError, Throttled, Unreachable
from tests.unit.objects import ENDED, RESUMED, STARTED, UID, condition, ended_state, job, pod, running_state
from tests.unit.test_reconcile import World, a_world

MADE = "2026-11-20T10:59:53Z"
BEHIND = "2026-11-20T08:00:00Z"
"""By the clock of a node."""
PAUSED = condition("Suspended", lastTransitionTime="2026-11-20T10:30:00Z")
RESUMED_NOW = condition("Suspended", "False", lastTransitionTime=RESUMED)
SPEC = {"completions": 1, "backoffLimit": 1}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as one:
        yield one


async def restarted(world: World) -> World:
    """Another controller at the same Redis; it has listed the Job."""
    other = World(world.ledger, world.client)
    await other.reconciler.recall([UID])
    return other


async def events(world: World) -> list[dict[str, Any]]:
    found = await world.client.xrange(world.ledger.keys.events)
    return [msgspec.json.decode(fields[b"event"]) for _, fields in found]


@pytest.mark.must_survive(12, 33)
@pytest.mark.parametrize("restarts", [False, True])
async def test_a_resumed_job_has_the_end_of_the_pod_that_was_made_before_its_start_time(
    world: World, restarts: bool
) -> None:
    world.store.put_job(job(startTime=STARTED, version=100, ready=1, spec=SPEC))
    await world.reconciler.reconcile(UID)
    former = pod(ended_state(1), name="former", phase="Failed", version=110)
    world.store.put_pod(former)
    world.store.put_job(job(startTime=STARTED, version=120, conditions=[PAUSED], spec=SPEC | {"suspend": True}))
    await world.reconciler.reconcile(UID)
    one = await restarted(world) if restarts else world
    made = {"creationTimestamp": MADE}
    async with one.logs:
        one.source.answers["now"] = [b"of this start"]
        one.store.put_pod(former)
        one.store.put_job(job(startTime=RESUMED, version=130, conditions=[RESUMED_NOW], spec=SPEC, failed=1))
        await one.reconciler.reconcile(UID)
        assert await one.published() == ["running", "suspended"], "nothing of this start runs yet"
        one.store.put_pod(pod(running_state(BEHIND), name="now", meta=made, version=131))
        await one.reconciler.reconcile(UID)
        one.store.put_pod(pod(ended_state(3, BEHIND, BEHIND), name="now", meta=made, phase="Failed", version=140))
        end = [RESUMED_NOW, condition("Failed", reason="BackoffLimitExceeded")]
        one.store.put_job(job(startTime=RESUMED, version=150, conditions=end, spec=SPEC, failed=2))
        await one.until_published()
    *_, last = await events(one)
    assert await one.published() == ["running", "suspended", "running", "failed"]
    assert (last["exit_code"], last["output"], last["log"]["state"]) == (3, "of this start", "complete")


@pytest.mark.must_survive(12)
async def test_an_end_never_lacks_the_log_of_the_only_attempt_that_ended(world: World) -> None:
    end = [RESUMED_NOW, condition("Failed", reason="BackoffLimitExceeded")]
    world.store.put_job(job(startTime=RESUMED, version=150, conditions=end, spec=SPEC, failed=1))
    world.store.put_pod(pod(ended_state(3), phase="Failed"))
    await world.until_published()
    *_, last = await events(world)
    assert (last["exit_code"], last["log"]["state"], last["output"]) == (3, "complete", "what it said")


def labelled(eval_id: str | None, **fields: Any) -> Any:
    labels = {"app": "evaluation"} | ({"eval-id": eval_id} if eval_id else {})
    return job(labels=labels, startTime=STARTED, **fields)


@pytest.mark.must_survive(39)
@pytest.mark.parametrize(("first", "later"), [("42", "43"), ("42", None), (None, "43")])
@pytest.mark.parametrize("how", ["watched", "restarted", "another replica"])
@pytest.mark.parametrize("end", ["Complete", "Suspended", "gone", "deleted"])
async def test_the_first_id_of_a_job_stays(
    world: World, first: str | None, later: str | None, how: str, end: str
) -> None:
    name = first or "eval-42"
    world.store.put_job(labelled(first, ready=1))
    await world.reconciler.reconcile(UID)
    one = await restarted(world) if how == "restarted" else World(world.ledger, world.client)
    one = world if how == "watched" else one
    async with one.logs:
        conditions = [condition(end)] if end in ("Complete", "Suspended") else []
        deleted = ENDED if end == "deleted" else None
        one.store.put_job(labelled(later, version=101, conditions=conditions, deleted=deleted))
        if end == "gone":
            one.store.remove_job(UID)
        await one.until_published()
    running, last = await events(one)
    assert running["eval_id"] == last["eval_id"] == name
    assert last["status"] == {"Complete": "completed", "Suspended": "suspended"}.get(end, "cancelled")
    assert any("eval_id was changed" in warning for warning in last["warnings"])
    record = await one.client.hgetall(one.ledger.keys.evaluation(name))
    assert record[b"status"].decode() == last["status"], "whoever waits for the first id hears of the end"
    assert not await one.client.exists(one.ledger.keys.evaluation(later or "eval-42"))


@pytest.mark.must_survive(39)
async def test_a_row_that_others_wrote_an_id_into_does_not_keep_its_job_from_ending(world: World) -> None:
    world.store.put_job(labelled("42", ready=1))
    await world.reconciler.reconcile(UID)
    await world.client.hset(world.ledger.keys.job(UID), "eval_id", b"\xff\xfe")
    world.store.put_job(labelled("42", version=101, conditions=[condition("Complete")]))
    await world.until_published()
    assert await world.published() == ["running", "completed"]


@pytest.mark.must_survive(39)
@pytest.mark.parametrize(("size", "expected"), [(1024, "x" * 1024), (1025, "eval-42"), (200_000, "eval-42")])
async def test_an_id_in_an_annotation_has_at_most_a_kibibyte(world: World, size: int, expected: str) -> None:
    annotations = {"eval-id": "x" * size}
    world.store.put_job(job(labels={}, annotations=annotations, startTime=STARTED, conditions=[condition("Complete")]))
    await world.until_published()
    *_, last = await events(world)
    assert last["eval_id"] == expected
    assert any("more than 1024 bytes" in warning for warning in last["warnings"]) == (size > 1024)
    assert all(len(warning) < 200 for warning in last["warnings"])


def deleted_by_watch(world: World) -> None:
    queue = Workqueue()
    change = Change("DELETED", "102", job(startTime=STARTED, version=102))
    JobStore("evals", world.store, queue, world.reconciler).change(change)


@pytest.mark.must_survive(9)
async def test_a_refusal_that_lasts_confirms_a_deletion_that_the_watch_has_brought(world: World) -> None:
    world.store.put_job(job(startTime=STARTED, ready=1))
    await world.reconciler.reconcile(UID)
    world.cluster.refusal = Forbidden("jobs is forbidden", code=403)
    deleted_by_watch(world)
    for _ in range(3):
        world.clock += 1
        with pytest.raises(Forbidden):
            await world.reconciler.reconcile(UID)
    world.clock += 5
    await world.until_published()
    *_, last = await events(world)
    assert (last["status"], last["reason"], last["last_status"]) == ("cancelled", "JobDeleted", "running")


@pytest.mark.must_survive(9)
@pytest.mark.parametrize("how", ["a list lacks it", "nobody looked", "it is back"])
async def test_a_refusal_alone_is_no_deletion(world: World, how: str) -> None:
    world.store.put_job(job(startTime=STARTED, ready=1))
    await world.reconciler.reconcile(UID)
    world.cluster.refusal = Forbidden("jobs is forbidden", code=403)
    one = await restarted(world) if how == "nobody looked" else world
    one.cluster.refusal = world.cluster.refusal
    if how == "it is back":
        deleted_by_watch(one)
        one.store.put_job(job(startTime=STARTED, ready=1, version=103))
        one.store.remove_job(UID)
    elif how == "a list lacks it":
        one.store.remove_job(UID)
    for _ in range(3):
        one.clock += 60
        with pytest.raises(Forbidden):
            await one.reconciler.reconcile(UID)
    assert await world.published() == ["running"]


@pytest.mark.parametrize("error", [Throttled("busy", code=503), Unreachable("no answer")])
async def test_an_api_server_that_does_not_answer_confirms_nothing(world: World, error: KubeError) -> None:
    world.store.put_job(job(startTime=STARTED, ready=1))
    await world.reconciler.reconcile(UID)
    world.cluster.refusal = error
    deleted_by_watch(world)
    for _ in range(3):
        world.clock += 60
        with pytest.raises(KubeError):
            await world.reconciler.reconcile(UID)
    assert await world.published() == ["running"]


async def test_of_a_job_that_goes_while_it_is_suspended_nothing_of_its_running_follows(world: World) -> None:
    paused = condition("Suspended")
    world.store.put_job(job(startTime=STARTED, version=100, conditions=[paused]))
    await world.reconciler.reconcile(UID)
    # Its Pod was not in view until now.
    world.store.put_pod(pod(running_state(ENDED)))
    world.store.put_job(job(startTime=STARTED, version=101, conditions=[paused], deleted=ENDED))
    await world.reconciler.reconcile(UID)
    assert await world.published() == ["suspended", "cancelled"]
