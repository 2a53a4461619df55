"""What is known of a Job between its statuses: its progress, and what its record says."""

from typing import Any

import pytest

from jobcast.event import PENDING, Progress
from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation
from jobcast.jobs.progress import (
    NOTHING,
    build_progress,
    build_record_fields,
    find_notes,
    find_waiting,
    in_intervals,
    summarize,
)
from jobcast.jobs.status import derive_status
from tests.unit.objects import (
    ENDED,
    RAN,
    condition,
    container_json,
    ended_state,
    job,
    pod,
    running_state,
    waiting_state,
)
from tests.unit.test_observation import LATER, LATEST, TARGET, failed, good, restarted, running, started


def published(one: Job, *pods: Pod) -> list[tuple[str, str, int | None]]:
    """Kind, Pod and exit code of each."""
    found = []
    seen = Observation(one, pods)
    for note in find_notes(seen):
        message = build_progress(seen, note, "running", lambda pod, container: [])
        assert isinstance(message, Progress)
        found.append((message.kind, message.attempt.pod, message.attempt.exit_code))
    return found


def test_a_job_of_one_pod_that_runs_or_does_well_has_no_progress() -> None:
    assert published(started(), running()) == []
    assert published(started(condition("Complete")), good()) == []
    assert published(started(), pod(waiting_state())) == []


def test_a_job_that_is_tried_once_and_fails_has_no_progress() -> None:
    assert published(started(), failed()) == []
    assert published(started(TARGET, failed=1), failed()) == []
    assert published(started(condition("Failed"), failed=1), failed()) == []


@pytest.mark.must_survive(11)
def test_an_attempt_that_failed_is_published_when_another_follows() -> None:
    first = failed()
    assert published(started(), first) == [], "it is not known yet whether another follows"
    assert published(started(failed=1), first) == [("attempt-ended", "bad", 1)]
    assert published(started(), first, running()) == [("attempt-ended", "bad", 1)]
    assert published(started(), first, running(start=RAN)) == [], "that one ran beside it"


def test_the_last_of_several_attempts_is_published_before_the_end() -> None:
    pods = failed("first", finished=ENDED), failed("second", 2, finished=LATER)
    assert published(started(failed=1), *pods) == [("attempt-ended", "first", 1)]
    assert published(started(TARGET, failed=1), *pods) == [("main-ended", "first", 1), ("main-ended", "second", 2)]
    again = failed("first"), pod(ended_state(2, started=LATER, finished=LATEST), name="second", phase="Failed")
    for last in (TARGET, condition("Failed")):
        assert published(started(last, failed=1), *again) == [
            ("attempt-ended", "first", 1),
            ("main-ended", "second", 2),
        ]


def test_the_last_of_several_instances_is_published_before_the_end() -> None:
    spec = {"backoffLimit": 1}
    over = pod(containers=[container_json(ended_state(5), restartCount=1)], phase="Failed")
    assert published(started(TARGET, spec=spec, failed=1), over) == [("main-ended", "eval-42-abcde", 5)]


def test_the_same_attempt_has_the_same_id_whatever_becomes_of_it() -> None:
    pods = failed("first"), running()
    (early,) = find_notes(Observation(started(), pods))
    (late, _) = find_notes(Observation(started(condition("Failed")), (pods[0], failed("runs"))))
    assert early.id == late.id


@pytest.mark.must_survive(14)
@pytest.mark.parametrize("code", [0, 3])
def test_a_main_container_that_ends_under_a_sidecar_is_published_at_once(code: int) -> None:
    both = [container_json(ended_state(code)), container_json(running_state(), name="proxy")]
    assert published(started(), pod(containers=both, phase="Running", names=("main", "proxy"))) == [
        ("main-ended", "eval-42-abcde", code)
    ]
    over = [container_json(ended_state(code)), container_json(ended_state(0), name="proxy")]
    assert published(started(), pod(containers=over, phase="Running", names=("main", "proxy"))) == []


def test_an_instance_that_ended_before_a_restart_is_an_attempt() -> None:
    seen = Observation(started(), [restarted()])
    (note,) = find_notes(seen)
    message = build_progress(seen, note, "running", lambda pod, container: [])
    assert (message.kind, message.attempt.exit_code, message.attempt.restarts) == ("attempt-ended", 3, 0)
    (waits,) = find_notes(Observation(started(), [restarted(0, **waiting_state("CrashLoopBackOff"))]))
    assert waits.id == note.id, "it was published already while it waited"
    assert (message.timestamp, message.status) == (1795168862.0, "running")


@pytest.mark.must_survive(12)
def test_each_index_that_finishes_is_published() -> None:
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


def test_why_a_pod_waits_is_in_the_life_and_what_every_pod_waits_for_is_not() -> None:
    pulls = pod(containers=[container_json({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}})])
    found = find_waiting([pulls])
    assert found is not None
    assert (found.reason, found.message, found.pod) == ("ImagePullBackOff", "Back-off", "eval-42-abcde")
    unscheduled = condition("PodScheduled", "False", reason="Unschedulable", message="0/1 nodes are available")
    found = find_waiting([pod(phase="Pending", conditions=[unscheduled])])
    assert found is not None
    assert (found.reason, found.message) == ("Unschedulable", "0/1 nodes are available")
    assert find_waiting([pod(waiting_state())]) is None
    assert find_waiting([running()]) is None


def test_only_an_unusual_life_is_worth_a_step_of_its_own() -> None:
    def of(one: Job, *pods: Pod) -> Any:
        return summarize(Observation(one, pods))

    assert of(started(), running()) == of(started(), good()) == of(started()) == NOTHING
    assert of(started(), failed()) != NOTHING
    assert of(started(), restarted()) != NOTHING
    assert of(started(completedIndexes="0"), running()) != NOTHING


def test_of_the_life_of_a_job_that_is_over_only_its_start_is_said() -> None:
    def fields(one: Job, *pods: Pod) -> dict[str, bytes]:
        seen = Observation(one, pods)
        return build_record_fields(seen, derive_status(seen), lambda pod, container: [])

    open_ = fields(started(), running())
    assert open_["waiting"] == b""
    assert b'"pod":"runs"' in open_["attempts"]
    assert open_["started_at"] == LATER.encode()
    over = fields(started(condition("Complete")), good())
    assert over == {"started_at": RAN.encode()}
    spec = {"completions": 4, "completionMode": "Indexed"}
    indexed = fields(started(spec=spec, completedIndexes="0-2", failedIndexes="3"), running())
    assert indexed["indexes"] == b'{"completed":"0-2","failed":"3","total":4}'
    assert derive_status(Observation(started())).status == PENDING


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
