"""The end that a Job had reached when it was deleted."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation
from jobcast.jobs.status import infer_end
from jobcast.kube import PODS
from tests.unit.objects import (
    ENDED,
    RAN,
    READING,
    condition,
    container_json,
    ended_state,
    pod,
    pod_json,
    running_state,
    waiting_state,
)
from tests.unit.test_observation import LATER, TARGET, failed, good, running, started


def end(one: Job, *pods: Pod, gone: bool = False) -> str | None:
    found = infer_end(Observation(one, pods, is_gone=gone)).job.end
    return found.type if found else None


@pytest.mark.must_survive(9)
@pytest.mark.parametrize(("fields", "gone"), [({"deleted": LATER}, False), ({}, True)])
def test_a_job_that_was_deleted_has_the_end_that_its_pods_show(fields: dict[str, str], gone: bool) -> None:
    def of(*pods: Pod, spec: dict[str, Any] | None = None) -> str | None:
        return end(started(spec=spec, **fields), *pods, gone=gone)

    assert of(good()) == "Complete"
    assert of(failed(), spec={"backoffLimit": 0}) == "Failed"
    assert of(failed("a"), failed("b"), spec={"backoffLimit": 1}) == "Failed"
    assert of(failed(), spec={"backoffLimit": 1}) is None, "it would have been tried again"
    assert of(good(), spec={"completions": 2}) is None
    assert of(running()) is of() is None
    assert of(good(), spec={"completions": None}) is None, "a work queue is not done with one"
    assert of(failed(), spec={"backoffLimit": 0, "podFailurePolicy": {"rules": []}}) is None
    indexed = {"completions": 2, "completionMode": "Indexed"}
    at = [{"batch.kubernetes.io/job-completion-index": str(n)} for n in (0, 1)]
    assert of(good("a", annotations=at[0]), good("b", annotations=at[0]), spec=indexed) is None
    assert of(good("a", annotations=at[0]), good("b", annotations=at[1]), spec=indexed) == "Complete"


@pytest.mark.must_survive(9, 14)
@pytest.mark.parametrize(("code", "expected"), [(0, "Complete"), (3, "Failed")])
def test_a_main_container_that_ended_under_a_sidecar_shows_the_end(code: int, expected: str) -> None:
    both = [container_json(ended_state(code)), container_json(running_state(), name="proxy")]
    once = started(spec={"backoffLimit": 0}, deleted=LATER)
    assert end(once, pod(containers=both, names=("main", "proxy"), phase="Running")) == expected
    again = pod(containers=both, names=("main", "proxy"), phase="Running", restart_policy="OnFailure")
    assert end(once, again) == ("Complete" if code == 0 else None), "it would have been started again"


@pytest.mark.must_survive(13)
def test_what_the_job_controller_had_decided_is_the_end_of_a_job_that_was_deleted() -> None:
    assert end(started(TARGET, deleted=LATER), running()) == "Failed"
    found = infer_end(Observation(started(TARGET, deleted=LATER))).job.end
    assert found is not None
    assert (found.reason, found.message, found.last_transition_time) == ("BackoffLimitExceeded", "too often", ENDED)
    assert end(started(condition("SuccessCriteriaMet")), gone=True) == "Complete"
    assert end(started(TARGET)) is None, "it is there, and its Pods are not gone yet"


@pytest.mark.must_survive(9, 33)
@pytest.mark.parametrize("finished", [ENDED, RAN, LATER])
def test_a_pod_that_was_not_seen_to_end_before_it_was_asked_to_go_was_killed(finished: str) -> None:
    """Its node's clock may be behind or ahead, so its times say nothing."""
    asked = {"deletionTimestamp": ENDED, "deletionGracePeriodSeconds": 30}
    one = pod(ended_state(0, finished=finished), phase="Succeeded", meta=asked)
    assert end(started(deleted=ENDED), one) is None
    assert end(started(deleted=ENDED), replace(one, ended_first=("main",))) == "Complete"


def test_a_job_that_has_its_end_is_left_as_it_is() -> None:
    whole = Observation(started(condition("Failed"), deleted=LATER), [good()], is_gone=True)
    assert infer_end(whole) is whole


RULES = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}]


@pytest.mark.must_survive(9, 14)
@pytest.mark.parametrize("state", [ended_state(3), waiting_state("CrashLoopBackOff")])
@pytest.mark.parametrize(
    "own",
    [
        {"restartPolicy": "Never", "restartPolicyRules": RULES},
        {"restartPolicy": "OnFailure"},
        {"restartPolicy": "Always"},
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_a_job_deleted_while_its_container_may_be_restarted_has_no_end(
    state: dict[str, Any], own: dict[str, Any], gone: bool
) -> None:
    """By the container's own policy, as Kubernetes 1.35 has it; the Pod's is Never."""
    whole = pod_json(phase="Running", containers=[container_json(state, lastState=ended_state(3), restartCount=1)])
    whole["spec"]["containers"] = [{"name": "main", **own}]
    one = PODS.one(json.dumps(whole).encode(), READING)
    once = started(spec={"backoffLimit": 0}, deleted=None if gone else LATER)
    assert end(once, one, gone=gone) is None
    whole["status"]["phase"] = "Failed"
    over = PODS.one(json.dumps(whole).encode(), READING)
    assert end(once, over, gone=gone) == "Failed", "now the kubelet has given it up"


def test_a_container_that_waits_has_not_ended_whatever_the_policies_say() -> None:
    waits = container_json(waiting_state("CrashLoopBackOff"), lastState=ended_state(3), restartCount=1)
    assert end(started(spec={"backoffLimit": 0}, deleted=LATER), pod(containers=[waits], phase="Running")) is None


def test_a_container_that_is_never_restarted_has_ended_although_its_pod_restarts_others() -> None:
    both = [container_json(ended_state(3)), container_json(running_state(), name="proxy")]
    whole = pod_json(containers=both, phase="Running", restart_policy="OnFailure")
    whole["spec"]["containers"] = [{"name": "main", "restartPolicy": "Never"}, {"name": "proxy"}]
    one = PODS.one(json.dumps(whole).encode(), READING)
    assert end(started(spec={"backoffLimit": 0}, deleted=LATER), one) == "Failed"
