"""Which Pods are a Job's, and which say their last word."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.unit.objects import STARTED, UID, condition, ended_state, job, pod, waiting_state
from tests.unit.test_reconcile import World, a_world

FAILED = [condition("Failed", reason="BackoffLimitExceeded")]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as one:
        yield one


@pytest.mark.must_survive(11)
@pytest.mark.parametrize("reason", ["OutOfcpu", "Evicted", "UnexpectedAdmissionError", "NodeLost", "Shutdown"])
@pytest.mark.parametrize("has_status", [False, True])
async def test_a_pod_that_failed_without_an_ended_container_keeps_no_end_waiting(
    world: World, reason: str, has_status: bool
) -> None:
    states = (waiting_state(),) if has_status else ()
    world.store.put_pod(pod(*states, phase="Failed", reason=reason, message="why"))
    world.store.put_job(job(startTime=STARTED, version=101, conditions=FAILED, failed=1))
    outcome = await world.reconciler.reconcile(UID)
    assert outcome.later is None
    assert [event.status for event in outcome.published] == ["failed"]
    (*_, (_, fields)) = await world.client.xrange(world.ledger.keys.events)
    event = msgspec.json.decode(fields[b"event"])
    assert (event["exit_code"], event["log"]["reason"]) == (None, "never-started")
    assert event["attempts"][0]["reason"] == reason
    assert world.cluster.asked == 0


@pytest.mark.must_survive(11)
async def test_a_pod_that_was_rejected_does_not_hide_the_one_that_decided(world: World) -> None:
    rejected = pod(name="rejected", phase="Failed", reason="OutOfcpu")
    last = pod(ended_state(3), phase="Failed")
    world.store.put_pod(rejected)
    world.cluster.pods = [rejected, last]
    world.store.put_job(job(startTime=STARTED, version=301, conditions=FAILED, failed=2))
    await world.until_published()
    (*_, (_, fields)) = await world.client.xrange(world.ledger.keys.events)
    assert msgspec.json.decode(fields[b"event"])["exit_code"] == 3


@pytest.mark.must_survive(39)
def test_the_pods_of_a_job_with_a_selector_of_its_own_are_asked_for_by_it() -> None:
    expressions = [
        {"key": "a", "operator": "In", "values": ["x", "y"]},
        {"key": "b", "operator": "NotIn", "values": ["z"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"mine": "1"}, "matchExpressions": expressions}
    assert job(spec={"manualSelector": True, "selector": selector}).pod_selector == "mine=1,a in (x,y),b notin (z),c,!d"
    assert job(spec={"selector": selector}).pod_selector == "batch.kubernetes.io/job-name=eval-42"


def test_a_pod_of_another_controller_is_no_jobs() -> None:
    owner = {"uid": "a replica set", "kind": "ReplicaSet", "controller": True}
    assert pod(meta={"ownerReferences": [owner]}).owner == ""
    assert pod(meta={"ownerReferences": [owner | {"kind": "Job", "uid": UID}]}).owner == UID
