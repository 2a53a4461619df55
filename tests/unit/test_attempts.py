"""What the Pods of a Job say: who speaks for a Pod, which attempt decides, what is published while the Job is open."""

from typing import Any

import pytest

from jobcast.event import PENDING, Progress
from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import attempts, deciding_outcome, in_intervals, pod_outcome
from jobcast.jobs.progress import NOTHING, life, notes, progress, summary, waiting
from jobcast.jobs.status import derive_status, infer_end
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


def published(one: Job, *pods: Pod) -> list[tuple[str, str, int | None]]:
    """Kind, Pod and exit code of each."""
    found = []
    for note in notes(one, pods):
        message = progress(one, pods, note, "running", lambda pod, container: [])
        assert isinstance(message, Progress)
        found.append((message.kind, message.attempt.pod, message.attempt.exit_code))
    return found


def restarted(restarts: int = 1, **state: Any) -> Pod:
    whole = container_json(
        state or running_state(LATER), restartCount=restarts, lastState=ended_state(3, reason="Error", message="oops")
    )
    return pod(containers=[whole], phase="Running")


def test_what_was_killed_before_the_job_was_resumed_did_not_decide_it() -> None:
    one = job(startTime=LATER, conditions=[condition("Suspended", "False"), condition("Failed")], failed=1)
    former = failed("former", code=143, deleted=True)
    assert deciding_outcome(one, [former]) is None
    found = deciding_outcome(one, [former, pod(ended_state(3, started=LATER, finished=LATEST), name="now")])
    assert found is not None
    assert found.pod.name == "now"


# Who speaks for a Pod.


def test_the_init_container_that_failed_speaks_where_the_main_one_never_ran() -> None:
    (attempt,) = attempts(started(), [init_failed()])
    assert (attempt.container, attempt.role, attempt.exit_code) == ("fetch", "init", 7)
    assert (attempt.reason, attempt.message) == ("Error", "no data")
    found = deciding_outcome(started(condition("Failed")), [init_failed()])
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
    (attempt,) = attempts(started(), [loop])
    assert (attempt.exit_code, attempt.reason, attempt.message, attempt.restarts) == (3, "Error", "oops", 2)


@pytest.mark.must_survive(19)
def test_why_a_pod_was_disrupted_is_the_attempts_reason() -> None:
    evicted = condition("DisruptionTarget", reason="EvictionByEvictionAPI", message="Eviction API: evicting")
    (attempt,) = attempts(started(), [failed(code=137, conditions=[evicted])])
    assert (attempt.exit_code, attempt.reason, attempt.message) == (
        137,
        "EvictionByEvictionAPI",
        "Eviction API: evicting",
    )
    lost = running(reason="NodeLost", message="node was unresponsive")
    (attempt,) = attempts(started(), [lost])
    assert (attempt.exit_code, attempt.reason) == (None, "NodeLost")


@pytest.mark.parametrize(
    ("index", "intervals", "is_in"),
    [
        (0, "0", True),
        (3, "0,2-4", True),
        (5, "0,2-4", False),
        (1, "", False),
        (12, "1-2,5", False),
        (1, "x,1-y", False),
    ],
)
def test_indexes_are_found_in_intervals(index: int, intervals: str, is_in: bool) -> None:
    assert in_intervals(index, intervals) is is_in


def test_what_was_killed_because_the_job_was_decided_did_not_decide_it() -> None:
    def decider(reason: str, *pods: Pod) -> str:
        decided = condition("FailureTarget", reason=reason)
        found = deciding_outcome(started(decided, condition("Failed", reason=reason)), pods)
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
    assert deciding_outcome(started(condition("Failed")), [lost]) is None
    found = deciding_outcome(started(condition("Failed")), [pod(START_ERROR, phase="Failed")])
    assert found is not None
    assert found.ended is not None
    assert found.ended.exit_code == 128


# What is published while a Job is open.


def test_a_job_of_one_pod_that_runs_or_does_well_has_no_progress() -> None:
    assert published(started(), running()) == []
    assert published(started(condition("Complete")), good()) == []
    assert published(started(), pod(waiting_state())) == []


def test_a_job_that_is_tried_once_and_fails_has_no_progress() -> None:
    assert published(started(), failed()) == []
    assert published(started(TARGET, failed=1), failed()) == []
    assert published(started(condition("Failed"), failed=1), failed()) == []


@pytest.mark.must_survive(11)
def test_an_attempt_that_failed_is_told_once_another_follows() -> None:
    first = failed()
    assert published(started(), first) == [], "nobody knows yet whether it is tried again"
    assert published(started(failed=1), first) == [("attempt-ended", "bad", 1)]
    assert published(started(), first, running()) == [("attempt-ended", "bad", 1)]
    assert published(started(), first, running(start=RAN)) == [], "that one ran beside it"


def test_the_last_of_several_attempts_is_told_before_the_end() -> None:
    pods = failed("first", finished=ENDED), failed("second", 2, finished=LATER)
    assert published(started(failed=1), *pods) == [("attempt-ended", "first", 1)]
    assert published(started(TARGET, failed=1), *pods) == [("main-ended", "first", 1), ("main-ended", "second", 2)]
    again = failed("first"), pod(ended_state(2, started=LATER, finished=LATEST), name="second", phase="Failed")
    for last in (TARGET, condition("Failed")):
        assert published(started(last, failed=1), *again) == [
            ("attempt-ended", "first", 1),
            ("main-ended", "second", 2),
        ]


def test_the_last_of_several_instances_is_told_before_the_end() -> None:
    spec = {"backoffLimit": 1}
    over = pod(containers=[container_json(ended_state(5), restartCount=1)], phase="Failed")
    assert published(started(TARGET, spec=spec, failed=1), over) == [("main-ended", "eval-42-abcde", 5)]


def test_the_same_attempt_has_the_same_id_whatever_becomes_of_it() -> None:
    pods = failed("first"), running()
    (early,) = notes(started(), pods)
    (late, _) = notes(started(condition("Failed")), (pods[0], failed("runs")))
    assert early.id == late.id


@pytest.mark.must_survive(14)
@pytest.mark.parametrize("code", [0, 3])
def test_a_main_container_that_ends_under_a_sidecar_is_told_at_once(code: int) -> None:
    both = [container_json(ended_state(code)), container_json(running_state(), name="proxy")]
    assert published(started(), pod(containers=both, phase="Running", names=("main", "proxy"))) == [
        ("main-ended", "eval-42-abcde", code)
    ]
    over = [container_json(ended_state(code)), container_json(ended_state(0), name="proxy")]
    assert published(started(), pod(containers=over, phase="Running", names=("main", "proxy"))) == []


def test_an_instance_that_ended_before_a_restart_is_an_attempt() -> None:
    (note,) = notes(started(), [restarted()])
    message = progress(started(), [restarted()], note, "running", lambda pod, container: [])
    assert (message.kind, message.attempt.exit_code, message.attempt.restarts) == ("attempt-ended", 3, 0)
    (waits,) = notes(started(), [restarted(0, **waiting_state("CrashLoopBackOff"))])
    assert waits.id == note.id, "it was published already while it waited"
    assert (message.timestamp, message.status) == (1795168862.0, "running")


@pytest.mark.must_survive(12)
def test_each_index_that_finishes_is_told() -> None:
    def at(index: int) -> dict[str, str]:
        return {"batch.kubernetes.io/job-completion-index": str(index)}

    pods = [good("a", annotations=at(0)), failed("b", annotations=at(1)), running("c", annotations=at(2))]
    spec = {"completions": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 0}
    assert published(started(spec=spec), *pods) == [("index-finished", "a", 0)]
    assert published(started(spec=spec, failed=1, failedIndexes="1"), *pods) == [
        ("index-finished", "a", 0),
        ("index-finished", "b", 1),
    ]
    assert published(started(spec=spec, failed=1), *pods) == [("index-finished", "a", 0), ("attempt-ended", "b", 1)]


def test_pods_that_a_suspension_killed_are_no_attempts() -> None:
    resumed = job(startTime=LATER, conditions=[condition("Suspended", "False")], failed=1)
    assert published(resumed, failed(code=143), running(start=LATEST)) == []


def test_a_lost_pod_is_an_attempt_that_failed() -> None:
    lost = pod(
        running_state(),
        name="lost",
        phase="Failed",
        conditions=[condition("DisruptionTarget", reason="DeletionByPodGC")],
    )
    assert published(started(failed=1), lost) == [("attempt-ended", "lost", None)]


# The life of a Job.


def test_why_a_pod_waits_is_in_the_life_and_what_every_pod_waits_for_is_not() -> None:
    pulls = pod(containers=[container_json({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}})])
    found = waiting(started(), [pulls])
    assert found is not None
    assert (found.reason, found.message, found.pod) == ("ImagePullBackOff", "Back-off", "eval-42-abcde")
    unscheduled = condition("PodScheduled", "False", reason="Unschedulable", message="0/1 nodes are available")
    found = waiting(started(), [pod(phase="Pending", conditions=[unscheduled])])
    assert found is not None
    assert (found.reason, found.message) == ("Unschedulable", "0/1 nodes are available")
    assert waiting(started(), [pod(waiting_state())]) is None
    assert waiting(started(), [running()]) is None


def test_only_an_unusual_life_is_worth_a_step_of_its_own() -> None:
    assert summary(started(), [running()]) == summary(started(), [good()]) == summary(started(), []) == NOTHING
    assert summary(started(), [failed()]) != NOTHING
    assert summary(started(), [restarted()]) != NOTHING
    assert summary(started(completedIndexes="0"), [running()]) != NOTHING


def test_of_the_life_of_a_job_that_is_over_only_its_start_is_said() -> None:
    def fields(one: Job, *pods: Pod) -> dict[str, bytes]:
        return life(one, pods, derive_status(one, pods), lambda pod, container: [])

    open_ = fields(started(), running())
    assert open_["waiting"] == b""
    assert b'"pod":"runs"' in open_["attempts"]
    assert open_["started_at"] == LATER.encode()
    over = fields(started(condition("Complete")), good())
    assert over == {"started_at": RAN.encode()}
    spec = {"completions": 4, "completionMode": "Indexed"}
    indexed = fields(started(spec=spec, completedIndexes="0-2", failedIndexes="3"), running())
    assert indexed["indexes"] == b'{"completed":"0-2","failed":"3","total":4}'
    assert derive_status(started(), []).status == PENDING


# The end a Job had reached when it was deleted.


def end(one: Job, *pods: Pod, gone: bool = False) -> str | None:
    found = infer_end(one, pods, gone=gone)
    return found.end.type if found.end else None


@pytest.mark.must_survive(9)
@pytest.mark.parametrize(("fields", "gone"), [({"deleted": LATER}, False), ({}, True)])
def test_a_job_that_was_deleted_has_the_end_its_pods_told(fields: dict[str, str], gone: bool) -> None:
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
def test_a_main_container_that_ended_under_a_sidecar_has_told_the_end(code: int, expected: str) -> None:
    both = [container_json(ended_state(code)), container_json(running_state(), name="proxy")]
    once = started(spec={"backoffLimit": 0}, deleted=LATER)
    assert end(once, pod(containers=both, names=("main", "proxy"), phase="Running")) == expected
    again = pod(containers=both, names=("main", "proxy"), phase="Running", restart_policy="OnFailure")
    assert end(once, again) == ("Complete" if code == 0 else None), "it would have been started again"


@pytest.mark.must_survive(13)
def test_what_the_job_controller_had_decided_is_the_end_of_a_job_that_was_deleted() -> None:
    assert end(started(TARGET, deleted=LATER), running()) == "Failed"
    found = infer_end(started(TARGET, deleted=LATER), [], gone=False).end
    assert found is not None
    assert (found.reason, found.message, found.last_transition_time) == ("BackoffLimitExceeded", "too often", ENDED)
    assert end(started(condition("SuccessCriteriaMet")), gone=True) == "Complete"
    assert end(started(TARGET)) is None, "it is there, and its Pods are not gone yet"


@pytest.mark.must_survive(9)
def test_a_pod_that_ended_since_it_was_asked_to_go_was_killed() -> None:
    def asked(at: str, grace: int = 0) -> Pod:
        return good(meta={"deletionTimestamp": at, "deletionGracePeriodSeconds": grace})

    assert end(started(deleted=LATER), asked(LATER)) == "Complete"
    assert end(started(deleted=ENDED), asked(ENDED)) is None, "within the same second: it may have heard the signal"
    assert end(started(deleted=RAN), asked(LATER, grace=300)) is None, "the timestamp is when the grace period ends"


def test_a_job_that_has_its_end_is_left_as_it_is() -> None:
    whole = started(condition("Failed"), deleted=LATER)
    assert infer_end(whole, [good()], gone=True) is whole


def test_a_container_that_could_not_start_did_not_run() -> None:
    (attempt,) = attempts(started(), [pod(START_ERROR)])
    assert (attempt.exit_code, attempt.started_at) == (128, None)
