"""Every row of the status table, and the Jobs that are easy to get wrong."""

from typing import Any

import pytest

from jobcast.event import PENDING, Status
from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation
from jobcast.jobs.status import JobStatus, derive_status, find_first_start
from tests.unit.objects import (
    CREATED,
    ENDED,
    RAN,
    RESUMED,
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

RUNS = pod(running_state())
RAN_WELL = pod(ended_state(0))
RAN_BADLY = pod(ended_state(1))
WAITS = pod(waiting_state())
PULLS_IN_VAIN = pod(waiting_state("ImagePullBackOff"))
NO_STATUS = pod()
NOT_STARTED = pod(START_ERROR)
COMPLETE, FAILED = condition("Complete"), condition("Failed", reason="BackoffLimitExceeded")


def started(*conditions: dict[str, Any], **fields: Any) -> Job:
    return job(startTime=STARTED, conditions=list(conditions), **fields)


def resumed(**fields: Any) -> Job:
    return job(startTime=RESUMED, conditions=[condition("Suspended", "False", reason="JobResumed")], **fields)


SUSPENDED = condition("Suspended", reason="JobSuspended")

TABLE: list[tuple[str, Job, list[Pod], bool, str, bool]] = [
    # what, the Job, its Pods, gone, status, has_run
    ("no Pod yet", started(), [], False, PENDING, False),
    ("nothing said yet", job(), [], False, PENDING, False),
    ("its Pod has no status", started(active=1), [NO_STATUS], False, PENDING, False),
    ("its Pod waits", started(active=1), [WAITS], False, PENDING, False),
    ("its Pod cannot start", started(active=1), [NOT_STARTED], False, PENDING, False),
    ("active alone", started(active=3), [], False, PENDING, False),
    ("its Pod runs", started(active=1), [RUNS], False, Status.RUNNING, True),
    ("its Pod ran", started(active=1), [RAN_WELL], False, Status.RUNNING, True),
    ("a retry: its Pod failed", started(active=1, failed=1), [RAN_BADLY, WAITS], False, Status.RUNNING, True),
    ("ready alone", started(active=1, ready=1), [], False, Status.RUNNING, True),
    ("a Pod before startTime", job(), [RUNS], False, PENDING, False),
    ("counters that flicker", started(succeeded=1, failed=9), [], False, PENDING, False),
    ("not yet the end: success criteria", started(condition("SuccessCriteriaMet")), [RAN_WELL], False, "running", True),
    ("not yet the end: failure target", started(condition("FailureTarget")), [RAN_BADLY], False, "running", True),
    ("suspended before it began", job(conditions=[SUSPENDED]), [], False, Status.SUSPENDED, False),
    ("suspended while it ran", started(SUSPENDED), [RUNS], False, Status.SUSPENDED, True),
    (
        "suspended again before it ran again",
        started(SUSPENDED),
        [pod(running_state("2026-11-20T08:00:00Z"), meta={"deletionTimestamp": "2026-11-20T09:59:00Z"})],
        False,
        Status.SUSPENDED,
        False,
    ),
    ("resumed, nothing runs yet", resumed(active=1), [WAITS], False, PENDING, False),
    ("resumed and running", resumed(active=1), [pod(running_state("2026-11-20T11:00:01Z"))], False, "running", True),
    ("complete", started(COMPLETE), [RAN_WELL], False, Status.COMPLETED, True),
    ("complete, Pods gone", started(COMPLETE, succeeded=1), [], False, Status.COMPLETED, True),
    ("complete before its Pod said so", started(COMPLETE), [WAITS], False, Status.COMPLETED, True),
    ("complete, asked for nothing", started(COMPLETE, spec={"completions": 0}), [], False, "completed", False),
    ("complete and in deletion", started(COMPLETE, deleted=ENDED), [RAN_WELL], False, Status.COMPLETED, True),
    ("complete and gone", started(COMPLETE), [RAN_WELL], True, Status.COMPLETED, True),
    ("failed", started(FAILED, failed=1), [RAN_BADLY], False, Status.FAILED, True),
    ("failed, Pods gone", started(FAILED, failed=1), [], False, Status.FAILED, True),
    ("failed, some Pods gone", started(FAILED, failed=2), [PULLS_IN_VAIN], False, Status.FAILED, True),
    ("failed and never ran", started(FAILED, failed=1), [PULLS_IN_VAIN], False, Status.FAILED, False),
    ("failed, the runtime could not start it", started(FAILED, failed=1), [NOT_STARTED], False, "failed", False),
    ("failed before it was started", job(conditions=[FAILED]), [], False, Status.FAILED, False),
    ("failed and in deletion", started(FAILED, deleted=ENDED), [RAN_BADLY], False, Status.FAILED, True),
    ("in deletion while pending", started(deleted=ENDED), [WAITS], False, Status.CANCELLED, False),
    ("in deletion while running", started(deleted=ENDED), [RUNS], False, Status.CANCELLED, True),
    ("gone while pending", started(), [], True, Status.CANCELLED, False),
    ("gone while running", started(ready=1), [], True, Status.CANCELLED, True),
    ("gone while suspended", job(conditions=[SUSPENDED]), [], True, Status.CANCELLED, False),
    (
        "in deletion, end in sight",
        started(condition("SuccessCriteriaMet"), deleted=ENDED),
        [],
        False,
        "cancelled",
        False,
    ),
]


@pytest.mark.must_survive(12)
@pytest.mark.parametrize(
    ("one", "pods", "gone", "status", "has_run"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_a_job_stands_where_its_conditions_and_pods_say(
    one: Job, pods: list[Pod], gone: bool, status: str, has_run: bool
) -> None:
    assert derive_status(Observation(one, pods, is_gone=gone)) == JobStatus(status, has_run)


@pytest.mark.must_survive(11)
def test_failed_pods_alone_are_not_failure() -> None:
    pods = [pod(ended_state(1), name=f"try-{n}") for n in range(6)]
    assert derive_status(Observation(started(active=1, failed=6), pods)).status == Status.RUNNING


@pytest.mark.must_survive(14)
def test_a_sidecar_that_runs_is_not_the_evaluation_running() -> None:
    statuses = [container_json(running_state(), "proxy"), container_json(waiting_state(), "work")]
    assert (
        derive_status(Observation(started(active=1), [pod(containers=statuses, names=("work", "proxy"))])).status
        == PENDING
    )


@pytest.mark.must_survive(14)
def test_a_sidecar_keeps_the_job_open_after_the_main_container_ended() -> None:
    statuses = [container_json(running_state(), "proxy"), container_json(ended_state(0), "work")]
    pods = [pod(containers=statuses, names=("work", "proxy"))]
    assert derive_status(Observation(started(active=1), pods)) == JobStatus(Status.RUNNING, True)


@pytest.mark.parametrize(
    "former",
    [
        pod(running_state(RAN), name="former", deleted=True),
        pod(ended_state(143), name="former", deleted=True),
        pod(waiting_state(), name="former", deleted=True),
        pod(START_ERROR, name="former", deleted=True),
    ],
    ids=["still running", "killed", "never started", "could not start"],
)
def test_pods_of_the_suspended_run_say_nothing_of_the_resumed_one(former: Pod) -> None:
    assert derive_status(Observation(resumed(active=1), [former])).status == PENDING
    now = pod(running_state("2026-11-20T11:00:05Z"), name="now")
    assert derive_status(Observation(resumed(active=1), [former, now])).status == Status.RUNNING
    assert find_first_start(Observation(resumed(), [former, now])) == "2026-11-20T11:00:05Z"


@pytest.mark.parametrize(
    ("former", "has_run"),
    [
        (pod(ended_state(143), deleted=True), True),
        (pod(waiting_state(), deleted=True), True),
        (pod(waiting_state("ImagePullBackOff"), meta={"deletionTimestamp": "2026-11-20T11:05:00Z"}), False),
        (pod(waiting_state("ImagePullBackOff")), False),
    ],
    ids=["killed", "never started", "never started since", "waits"],
)
def test_a_resumed_job_whose_pods_are_gone_must_have_run(former: Pod, has_run: bool) -> None:
    one = job(startTime=RESUMED, conditions=[condition("Suspended", "False"), condition("Failed")], failed=1)
    assert derive_status(Observation(one, [former])) == JobStatus(Status.FAILED, has_run)


def test_a_job_that_was_created_suspended_counts_its_first_pods() -> None:
    one = job(startTime=STARTED, conditions=[condition("Suspended", "False")], active=1)
    assert derive_status(Observation(one, [RUNS])).status == Status.RUNNING


def test_the_first_start_is_the_earliest_of_its_pods_else_the_jobs_own() -> None:
    pods = [pod(running_state("2026-11-20T10:00:09Z"), name="b"), pod(running_state(RAN), name="a"), WAITS]
    assert find_first_start(Observation(started(), pods)) == RAN
    assert find_first_start(Observation(started(), [WAITS])) == STARTED
    assert find_first_start(Observation(job(), [])) is None


def test_the_creation_time_is_no_start() -> None:
    assert job().created == CREATED
    assert derive_status(Observation(job(), [])).has_run is False


def test_only_an_end_is_terminal() -> None:
    ends = {status for status in Status if JobStatus(status, True).is_terminal}
    assert ends == {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    assert not JobStatus(PENDING, False).is_terminal
