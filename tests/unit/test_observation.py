"""What the Pods of a Job say: who speaks for a Pod, which attempt decides, what is published while the Job is open."""

from typing import Any

import pytest

from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation, list_attempts, pod_outcome
from tests.unit.objects import (
    ENDED,
    RAN,
    START_ERROR,
    STARTED,
    condition,
    container_json,
    ended_state,
    job,
    pod,
    running_state,
    waiting_state,
)

LATER = "2026-11-20T10:05:00Z"
LATEST = "2026-11-20T10:09:00Z"
TARGET = condition("FailureTarget", reason="BackoffLimitExceeded", message="too often")


def started(*conditions: dict[str, Any], spec: dict[str, Any] | None = None, **fields: Any) -> Job:
    whole = {"completions": 1, "backoffLimit": 6} | (spec or {})
    return job(startTime=STARTED, conditions=list(conditions), spec=whole, **fields)


def failed(name: str = "bad", code: int = 1, finished: str = ENDED, **fields: Any) -> Pod:
    return pod(ended_state(code, finished=finished, reason="Error"), name=name, phase="Failed", **fields)


def good(name: str = "good", **fields: Any) -> Pod:
    return pod(ended_state(0, reason="Completed"), name=name, phase="Succeeded", **fields)


def running(name: str = "runs", start: str = LATER, **fields: Any) -> Pod:
    return pod(running_state(start), name=name, phase="Running", **fields)


def init_failed(code: int = 7) -> Pod:
    init = container_json(ended_state(code, reason="Error", message="no data"), name="fetch")
    main = container_json(waiting_state("PodInitializing"))
    return pod(containers=[main], initContainerStatuses=[init], phase="Failed")


def restarted(restarts: int = 1, **state: Any) -> Pod:
    whole = container_json(
        state or running_state(LATER), restartCount=restarts, lastState=ended_state(3, reason="Error", message="oops")
    )
    return pod(containers=[whole], phase="Running")


def test_what_was_killed_before_the_job_was_resumed_did_not_decide_it() -> None:
    one = job(startTime=LATER, conditions=[condition("Suspended", "False"), condition("Failed")], failed=1)
    former = failed("former", code=143, deleted=True)
    assert Observation(one, [former]).decider is None
    found = Observation(one, [former, pod(ended_state(3, started=LATER, finished=LATEST), name="now")]).decider
    assert found is not None
    assert found.pod.name == "now"


# Who speaks for a Pod.


def test_the_init_container_that_failed_speaks_where_the_main_one_never_ran() -> None:
    (attempt,) = list_attempts(Observation(started(), [init_failed()]))
    assert (attempt.container, attempt.role, attempt.exit_code) == ("fetch", "init", 7)
    assert (attempt.reason, attempt.message) == ("Error", "no data")
    found = Observation(started(condition("Failed")), [init_failed()]).decider
    assert found is not None
    assert (found.container.name, found.role) == ("fetch", "init")


def test_an_init_container_that_did_well_or_is_a_sidecar_says_nothing() -> None:
    inits = [container_json(ended_state(0), name="fetch"), container_json(ended_state(137), name="proxy")]
    spec = [{"name": "fetch"}, {"name": "proxy", "restartPolicy": "Always"}]
    one = pod(ended_state(0), initContainerStatuses=inits, init_specs=spec)
    assert (pod_outcome(started(), one).container.name, pod_outcome(started(), one).role) == ("main", "main")
    assert [container.name for container in one.sidecars] == ["proxy"]
    waits = pod(containers=[container_json(waiting_state())], initContainerStatuses=inits, init_specs=spec)
    assert pod_outcome(started(), waits).role == "main"


def test_a_container_that_waits_to_be_restarted_has_ended() -> None:
    loop = restarted(2, **waiting_state("CrashLoopBackOff"))
    (attempt,) = list_attempts(Observation(started(), [loop]))
    assert (attempt.exit_code, attempt.reason, attempt.message, attempt.restarts) == (3, "Error", "oops", 2)


@pytest.mark.must_survive(19)
def test_why_a_pod_was_disrupted_is_the_attempts_reason() -> None:
    evicted = condition("DisruptionTarget", reason="EvictionByEvictionAPI", message="Eviction API: evicting")
    (attempt,) = list_attempts(Observation(started(), [failed(code=137, conditions=[evicted])]))
    assert (attempt.exit_code, attempt.reason, attempt.message) == (
        137,
        "EvictionByEvictionAPI",
        "Eviction API: evicting",
    )
    lost = running(reason="NodeLost", message="node was unresponsive")
    (attempt,) = list_attempts(Observation(started(), [lost]))
    assert (attempt.exit_code, attempt.reason) == (None, "NodeLost")


def test_what_was_killed_because_the_job_was_decided_did_not_decide_it() -> None:
    def decider(reason: str, *pods: Pod) -> str:
        decided = condition("FailureTarget", reason=reason)
        found = Observation(started(decided, condition("Failed", reason=reason)), pods).decider
        assert found is not None
        return found.pod.name

    def killed(asked: str) -> Pod:
        return failed(
            "killed", 143, finished=LATEST, meta={"deletionTimestamp": asked, "deletionGracePeriodSeconds": 0}
        )

    cause = failed("cause", 9, finished=RAN)
    assert decider("MaxFailedIndexesExceeded", cause, killed(LATER)) == "cause"
    assert decider("DeadlineExceeded", cause, killed(LATER)) == "killed", "that is what the deadline cut short"
    assert decider("BackoffLimitExceeded", cause, killed(RAN)) == "killed", "it was evicted, and was the last attempt"
    assert decider("BackoffLimitExceeded", killed(LATER)) == "killed"


def test_a_container_of_which_the_kubelet_has_no_trace_decides_nothing() -> None:
    lost = pod(ended_state(137, None, reason="ContainerStatusUnknown"), phase="Failed")
    assert Observation(started(condition("Failed")), [lost]).decider is None
    found = Observation(started(condition("Failed")), [pod(START_ERROR, phase="Failed")]).decider
    assert found is not None
    assert found.ended is not None
    assert found.ended.exit_code == 128


def test_a_container_that_could_not_start_did_not_run() -> None:
    (attempt,) = list_attempts(Observation(started(), [pod(START_ERROR)]))
    assert (attempt.exit_code, attempt.started_at) == (128, None)
