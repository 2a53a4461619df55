"""What is due of a Job, and what its events say."""

from typing import Any

import pytest

from jobcast.event import Cancelled, Completed, Event, Failed, Log, Running, Status, Suspended, event_id
from jobcast.jobs.facts import (
    EventBuilder,
    EventContext,
    Fact,
    LogRead,
    facts_due,
    unavailable,
)
from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation, list_attempts
from jobcast.jobs.status import derive_status
from tests.unit.objects import (
    CREATED,
    ENDED,
    RAN,
    START_ERROR,
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

NOW = "2026-11-20T12:00:00Z"
READ = LogRead(Log(state="complete", bytes=3, source="eval-42-abcde/main"), "hey", False)
COMPLETE = condition("Complete", reason="CompletionsReached")
FAILED = condition("Failed", reason="BackoffLimitExceeded", message="Job has reached the specified backoff limit")
SUSPENDED = condition("Suspended", reason="JobSuspended")


def facts(one: Job, pods: list[Pod], gone: bool = False) -> list[tuple[str, str]]:
    now = derive_status(Observation(one, pods, is_gone=gone))
    return [(fact.status.value, fact.id) for fact in facts_due(one, now)]


def events_of(one: Job, pods: list[Pod], context: EventContext = EventContext(READ), gone: bool = False) -> list[Event]:  # noqa: B008 - frozen
    seen = Observation(one, pods, is_gone=gone)
    builder = EventBuilder(seen, context, now=lambda: NOW)
    return [builder.event(fact) for fact in facts_due(one, derive_status(seen))]


def only(kind: type[Any], events: list[Event]) -> Any:
    (found,) = (event for event in events if isinstance(event, kind))
    return found


def completed(*states: dict[str, Any], **fields: Any) -> Completed:
    pods = [pod(*states)] if states else []
    one: Completed = only(
        Completed, events_of(job(**({"startTime": STARTED, "conditions": [COMPLETE]} | fields)), pods)
    )
    return one


def failed(*states: dict[str, Any], **fields: Any) -> Failed:
    pods = [pod(*states)] if states else []
    one: Failed = only(Failed, events_of(job(**({"startTime": STARTED, "conditions": [FAILED]} | fields)), pods))
    return one


def test_nothing_is_due_of_a_pending_job() -> None:
    assert facts(job(startTime=STARTED), []) == []


def test_ids_can_be_worked_out_from_what_the_api_server_shows() -> None:
    running = ("running", event_id(UID, "running", STARTED))
    assert facts(job(startTime=STARTED), [pod(running_state())]) == [running]
    assert facts(job(conditions=[SUSPENDED]), []) == [("suspended", event_id(UID, "suspended", ENDED))]
    assert facts(job(startTime=STARTED, conditions=[FAILED], failed=1), [pod(START_ERROR)]) == [
        ("failed", event_id(UID, "failed", ""))
    ]


@pytest.mark.parametrize("end", ["Complete", "Failed"])
def test_the_end_of_a_job_that_was_not_seen_running_comes_after_its_running(end: str) -> None:
    one = job(startTime=STARTED, conditions=[condition(end)], succeeded=1)
    statuses = [status for status, _ in facts(one, [])]
    assert statuses == ["running", "completed" if end == "Complete" else "failed"]


def test_the_ids_do_not_depend_on_pods_or_on_who_looks() -> None:
    one = job(startTime=STARTED, conditions=[COMPLETE], succeeded=1)
    seen = [
        facts(one, pods) for pods in ([], [pod(ended_state())], [pod(running_state()), pod(ended_state(), name="b")])
    ]
    assert seen[0] == seen[1] == seen[2]


def test_each_start_has_its_own_running() -> None:
    again = "2026-11-20T11:00:00Z"
    first, second = (facts(job(startTime=start, ready=1), []) for start in (STARTED, again))
    assert first != second


@pytest.mark.parametrize("gone", [True, False])
def test_a_job_without_a_start_time_is_not_published_as_running(gone: bool) -> None:
    # From Kubernetes 1.35 on, suspending clears startTime while the Pods still terminate; without it the id would be
    # another one than the running had that was published.
    lingering = [pod(running_state(), deleted=True)]
    suspended = job(conditions=[SUSPENDED])
    assert [status for status, _ in facts(suspended, lingering)] == ["suspended"]
    going = job(conditions=[SUSPENDED], deleted=None if gone else ENDED)
    assert [status for status, _ in facts(going, lingering, gone=True)] == ["cancelled"]


def test_running_says_when_and_for_how_long_at_most() -> None:
    one = job(startTime=STARTED, annotations={"timeout": "600"}, labels={"eval-id": "42", "pipeline": "nightly"})
    event = only(Running, events_of(one, [pod(running_state())]))
    assert (event.started_at, event.time, event.timestamp) == (RAN, RAN, 1795168802.0)
    assert (event.timeout, event.eval_id) == (600.0, "42")
    assert (event.executor_id, event.container_id) == ("eval-42", "eval-42")
    assert event.metadata == {"job_name": "eval-42", "pipeline": "nightly"}
    assert (event.job.namespace, event.job.name, event.job.uid) == ("evals", "eval-42", UID)


def test_running_without_a_pod_in_sight_starts_with_the_job() -> None:
    assert only(Running, events_of(job(startTime=STARTED, ready=1), [])).started_at == STARTED


def test_suspended_says_why() -> None:
    event = only(Suspended, events_of(job(conditions=[SUSPENDED]), []))
    assert (event.reason, event.time) == ("JobSuspended", ENDED)


def test_cancelled_says_whether_it_is_gone_and_what_was_known() -> None:
    context = EventContext(last_status="running")
    event = only(Cancelled, events_of(job(startTime=STARTED), [], context, gone=True))
    assert (event.reason, event.cancelled_at, event.last_status, event.job_name) == (
        "JobDeleted",
        NOW,
        "running",
        "eval-42",
    )
    going = only(Cancelled, events_of(job(startTime=STARTED, deleted=ENDED), [], EventContext()))
    assert (going.reason, going.cancelled_at, going.timestamp) == ("JobBeingDeleted", ENDED, 1795168862.0)


def test_completed_says_how_it_went() -> None:
    event = completed(ended_state(0), completionTime=ENDED)
    assert (event.exit_code, event.output, event.error, event.reason) == (0, "hey", None, "CompletionsReached")
    assert (event.duration_seconds, event.output_truncated) == (62.0, False)
    assert event.metadata == {"job_name": "eval-42", "completed_at": ENDED, "log_source": "eval-42-abcde/main"}


@pytest.mark.must_survive(12)
def test_failed_says_why_in_one_line_with_the_reason_verbatim() -> None:
    event = failed(ended_state(3))
    assert (event.exit_code, event.reason) == (3, "BackoffLimitExceeded")
    assert event.error == "BackoffLimitExceeded: Job has reached the specified backoff limit"
    assert event.metadata["failed_at"] == ENDED
    assert "completed_at" not in event.metadata


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"reason": "DeadlineExceeded"}, "DeadlineExceeded"),
        ({"message": "just so"}, "just so"),
        ({"reason": "", "message": ""}, None),
        ({}, None),
        ({"reason": "PodFailurePolicy", "message": "line one\nline two"}, "PodFailurePolicy: line one line two"),
    ],
)
def test_the_error_is_one_readable_line(fields: dict[str, str], error: str | None) -> None:
    assert failed(ended_state(1), conditions=[condition("Failed", **fields)]).error == error


@pytest.mark.parametrize("states", [(), (waiting_state(),), (running_state(),)], ids=["no Pod", "waits", "runs"])
def test_an_unknown_exit_code_is_not_invented(states: tuple[dict[str, Any], ...]) -> None:
    assert completed(*states).exit_code is None
    assert failed(*states).exit_code is None


def test_a_terminated_state_without_a_code_has_none() -> None:
    state = ended_state(0)
    del state["terminated"]["exitCode"]
    assert failed(state).exit_code is None


@pytest.mark.must_survive(14)
def test_a_sidecars_exit_code_decides_nothing() -> None:
    statuses = [container_json(ended_state(137), "proxy"), container_json(ended_state(0), "work")]
    pods = [pod(containers=statuses, names=("work", "proxy"))]
    event = only(Completed, events_of(job(startTime=STARTED, conditions=[COMPLETE]), pods))
    assert event.exit_code == 0


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        (STARTED, ENDED, 62.0),
        (STARTED, "2026-11-20T10:00:00.250Z", 0.25),
        (None, ENDED, None),
        ("soon", ENDED, None),
        (ENDED, STARTED, 0.0),
    ],
)
def test_the_duration_is_between_two_times_of_the_cluster(start: str | None, end: str, seconds: float | None) -> None:
    assert completed(ended_state(), startTime=start, completionTime=end).duration_seconds == seconds


def test_a_failed_job_has_no_completion_time_and_lasts_until_its_condition() -> None:
    assert failed(ended_state(1)).duration_seconds == 62.0


@pytest.mark.must_survive(33)
@pytest.mark.parametrize(
    ("time", "timestamp", "shown"),
    [
        ("2026-11-20T10:01:02.5Z", 1795168862.5, "2026-11-20T10:01:02.5Z"),
        ("2026-11-20T10:01:02.123456789Z", 1795168862.123456, "2026-11-20T10:01:02.123456789Z"),
        (None, 1795168798.0, CREATED),
        ("", 1795168798.0, CREATED),
        ("nonsense", 1795168798.0, CREATED),
    ],
)
def test_an_odd_time_gives_way_to_the_next_best_of_the_cluster(time: str | None, timestamp: float, shown: str) -> None:
    event = failed(ended_state(1), conditions=[condition("Failed", lastTransitionTime=time)])
    assert (event.timestamp, event.time) == (pytest.approx(timestamp), shown)


def test_a_job_without_any_time_is_published_at_the_epoch() -> None:
    event = failed(ended_state(1), conditions=[{"type": "Failed", "status": "True"}], meta={"creationTimestamp": None})
    assert (event.timestamp, event.time) == (0.0, "1970-01-01T00:00:00Z")


def test_a_missing_log_is_said_and_costs_the_event_nothing() -> None:
    one = job(startTime=STARTED, conditions=[FAILED])
    event = only(Failed, events_of(one, [], EventContext(unavailable("pod-gone"))))
    assert (event.output, event.output_truncated, event.log.state, event.log.reason) == (
        "",
        False,
        "unavailable",
        "pod-gone",
    )
    assert event.metadata["log_source"] == "none"


def test_attempts_come_in_the_order_in_which_they_started() -> None:
    pods = [
        pod(waiting_state("ImagePullBackOff"), name="never"),
        pod(ended_state(0, "2026-11-20T10:00:30Z"), name="third"),
        pod(ended_state(1, RAN, reason="Error"), name="second"),
        pod(ended_state(1, "2026-11-20T10:00:01Z"), name="first", reason="Evicted"),
        pod(name="bare", phase="Pending"),
    ]
    found = list_attempts(Observation(job(), pods))
    assert [one.pod for one in found] == ["first", "second", "third", "bare", "never"]
    assert [one.reason for one in found] == ["Evicted", "Error", None, None, "ImagePullBackOff"]
    assert [one.exit_code for one in found] == [1, 1, 0, None, None]


def test_an_attempt_says_its_index_and_its_restarts() -> None:
    annotations = {"batch.kubernetes.io/job-completion-index": "3"}
    again = container_json(running_state(), restartCount=2, lastState=ended_state(1))
    (one,) = list_attempts(Observation(job(), [pod(containers=[again], annotations=annotations)]))
    assert (one.index, one.restarts, one.started_at, one.exit_code) == (3, 2, RAN, None)


@pytest.mark.must_survive(11)
def test_the_attempt_that_decides_is_the_last_that_ended_the_way_the_job_did() -> None:
    def decider(end: dict[str, Any], *pods: Pod) -> str:
        found = Observation(job(conditions=[end]), pods).decider
        assert found is not None
        return found.pod.name

    bad_first = pod(ended_state(1, finished="2026-11-20T10:00:10Z"), name="bad-first")
    good = pod(ended_state(0, finished="2026-11-20T10:00:20Z"), name="good")
    bad_last = pod(ended_state(1, finished="2026-11-20T10:00:30Z"), name="bad-last")
    assert decider(COMPLETE, bad_first, good, bad_last) == "good"
    assert decider(FAILED, bad_last, bad_first, good) == "bad-last"
    assert decider(COMPLETE, bad_first, bad_last) == "bad-last"
    assert decider(FAILED, good, pod(running_state(), name="runs")) == "good"
    assert Observation(job(conditions=[FAILED]), [pod(waiting_state())]).decider is None


def test_the_decision_does_not_depend_on_the_order_of_pods() -> None:
    pods = [pod(ended_state(1), name=name) for name in ("b", "a", "c")]
    names = {
        Observation(job(conditions=[FAILED]), order).decider.pod.name
        for order in (pods, pods[::-1], pods[1:] + pods[:1])
    }
    assert names == {"c"}


def test_a_due_fact_is_named_by_id_and_status_alone() -> None:
    one = job(startTime=STARTED, ready=1)
    assert facts_due(one, derive_status(Observation(one))) == (Fact(event_id(UID, "running", STARTED), Status.RUNNING),)


DEEP = '[{"name": "a", "location": "b", "x": ' + "[" * 100_000 + "]" * 100_000 + "}]"


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        (
            {"jobcast/artifacts": "not JSON"},
            "annotation jobcast/artifacts: 'not JSON' is no JSON list of name and location",
        ),
        ({"jobcast/artifacts": '{"name": "a"}'}, "annotation jobcast/artifacts"),
        ({"jobcast/artifacts": DEEP}, "annotation jobcast/artifacts"),
        (
            {"jobcast/container": "absent"},
            "annotation jobcast/container: no container is named 'absent'; there is main",
        ),
        ({"timeout": "soon"}, "annotation timeout: 'soon' is no number of seconds"),
    ],
)
def test_annotations_that_lie_are_said_and_cost_nothing_else(annotations: dict[str, str], said: str) -> None:
    read = LogRead(Log(state="complete", bytes=1), "x", False)
    one = job(startTime=STARTED, conditions=[COMPLETE], annotations=annotations)
    end = only(Completed, events_of(one, [pod(ended_state())], EventContext(read)))
    assert end.exit_code == 0
    (warning,) = end.warnings
    assert warning.startswith(said)
    assert len(warning) < 200


def test_artifacts_are_published() -> None:
    read = LogRead(Log(state="complete", bytes=1), "x", False)
    given = '[{"name": "model", "location": "s3://bucket/model", "size": 3}]'
    one = job(startTime=STARTED, conditions=[COMPLETE], annotations={"jobcast/artifacts": given})
    end = only(Completed, events_of(one, [pod(ended_state())], EventContext(read)))
    assert [(found.name, found.location) for found in end.artifacts] == [("model", "s3://bucket/model")]
    assert end.warnings == []
