"""From the API server's JSON to Job and Pod: odd, sparse and hostile objects included."""

import json
from typing import Any

import pytest

from controller.store import Store
from jobcast.jobs.decode import Reading
from jobcast.jobs.model import Job, main_container, unix
from jobcast.kube import JOBS, PODS
from tests.unit.objects import (
    CREATED,
    ENDED,
    RAN,
    READING,
    START_ERROR,
    condition,
    container_json,
    ended_state,
    job,
    job_json,
    pod,
    pod_json,
    running_state,
    waiting_state,
)


def bare(**metadata: Any) -> Job:
    return JOBS.one(json.dumps({"metadata": {"uid": "u", "name": "n", **metadata}}).encode(), READING)


@pytest.mark.must_survive(8)
def test_a_job_without_labels_status_or_spec_is_read() -> None:
    one = bare()
    assert (one.eval_id, one.has_eval_id) == ("n", False)
    assert (one.end, one.suspended, one.started, one.ready, one.active, one.timeout) == (None, None, None, 0, 0, None)


@pytest.mark.parametrize(
    "field", ["labels", "annotations", "creationTimestamp", "deletionTimestamp", "ownerReferences"]
)
def test_null_in_the_metadata_is_as_good_as_absent(field: str) -> None:
    assert bare(**{field: None}) == bare()


@pytest.mark.parametrize("field", ["spec", "status"])
def test_a_null_spec_or_status_is_as_good_as_absent(field: str) -> None:
    whole = {"metadata": {"uid": "u", "name": "n"}, field: None}
    assert JOBS.one(json.dumps(whole).encode(), READING) == bare()


@pytest.mark.parametrize("field", ["uid", "name"])
def test_what_has_no_uid_or_name_is_no_job(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        JOBS.one(json.dumps(job_json(meta={field: ""})).encode(), READING)


def test_a_version_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        job(version="latest")


def test_the_evaluation_is_the_label_else_the_annotation_else_the_name() -> None:
    label, annotation = {"eval-id": "label"}, {"eval-id": "a long one, with anything in it: é/{}"}
    assert job(labels=label, annotations=annotation).eval_id == "label"
    assert job(labels={}, annotations=annotation).eval_id == annotation["eval-id"]
    assert job(labels={"eval-id": ""}, annotations=annotation).eval_id == annotation["eval-id"]
    unnamed = job(labels={}, annotations={})
    assert (unnamed.eval_id, unnamed.has_eval_id) == (unnamed.name, False)


def test_the_labels_name_is_a_setting() -> None:
    own = Reading(eval_id_label="example.com/run", metadata_labels=("team", "pipeline"))
    one = job(own, labels={"example.com/run": "7", "team": "a", "other": "b"})
    assert (one.eval_id, one.labels) == ("7", {"team": "a"})
    assert job(own, labels={"eval-id": "7"}).has_eval_id is False


def test_no_label_that_is_not_allowed_is_kept() -> None:
    assert job(labels={"eval-id": "1", "secret": "x"}).labels is None


@pytest.mark.must_survive(13)
@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_conditions_are_found_in_any_position(kind: str) -> None:
    others = [condition("SuccessCriteriaMet"), condition("FailureTarget"), condition("Suspended", "False")]
    for position in range(len(others) + 1):
        one = job(conditions=[*others[:position], condition(kind, reason="Because"), *others[position:]])
        assert one.end is not None
        assert (one.end.type, one.end.reason) == (kind, "Because")


@pytest.mark.parametrize("status", ["False", "Unknown", ""])
def test_a_condition_that_is_not_true_ends_nothing(status: str) -> None:
    assert job(conditions=[condition("Complete", status), condition("Failed", status)]).end is None


def test_conditions_from_the_future_are_passed_over() -> None:
    one = job(conditions=[condition("Paused"), {"type": "Odd"}, {}, {"type": "Complete", "status": "True", "new": [1]}])
    assert one.end is not None
    assert one.end.last_transition_time is None


def test_a_suspended_job_is_suspended_and_a_resumed_one_was() -> None:
    assert job(conditions=[condition("Suspended", reason="JobSuspended")]).suspended is not None
    resumed = job(conditions=[condition("Suspended", "False", reason="JobResumed")])
    assert (resumed.suspended, resumed.was_suspended) == (None, True)
    assert job().was_suspended is False


@pytest.mark.parametrize(
    ("annotation", "seconds"),
    [
        ("600", 600.0),
        ("600s", 600.0),
        (" 90 ", 90.0),
        ("1.5", 1.5),
        ("10m", 77.0),
        ("soon", 77.0),
        ("", 77.0),
        ("nan", 77.0),
        ("inf", 77.0),
        ("-inf", 77.0),
        ("-5", 77.0),
        ("0", 77.0),
        ("1e999", 77.0),
    ],
)
def test_a_timeout_that_makes_no_sense_gives_way_to_the_deadline(annotation: str, seconds: float) -> None:
    assert job(annotations={"timeout": annotation}, spec={"activeDeadlineSeconds": 77}).timeout == seconds


def test_without_annotation_and_deadline_there_is_no_timeout() -> None:
    assert job().timeout is None


def test_a_job_that_asks_for_no_completions_is_known_as_empty() -> None:
    assert job(spec={"completions": 0}).is_empty
    assert not job(spec={"completions": 1}).is_empty
    assert not job().is_empty


@pytest.mark.parametrize(
    ("annotation", "index"),
    [("0", 0), ("17", 17), ("", None), ("-1", None), ("one", None), ("1.5", None), ("²", None), ("9" * 5000, None)],
)
def test_an_index_that_is_none_costs_nothing_else(annotation: str, index: int | None) -> None:
    assert pod(annotations={"batch.kubernetes.io/job-completion-index": annotation}).index == index


def test_a_pod_belongs_to_the_owner_that_controls_it() -> None:
    whole = pod_json(owner="job")
    whole["metadata"]["ownerReferences"] = [{"uid": "other"}, {"uid": "job", "controller": True}]
    assert PODS.one(json.dumps(whole).encode(), READING).owner == "job"
    whole["metadata"]["ownerReferences"] = []
    assert PODS.one(json.dumps(whole).encode(), READING).owner == ""


@pytest.mark.must_survive(8)
def test_a_pod_without_status_is_read() -> None:
    whole = {"metadata": {"uid": "u", "name": "n", "creationTimestamp": None}, "spec": {"containers": None}}
    one = PODS.one(json.dumps(whole).encode(), READING)
    assert (one.containers, one.first, one.owner, one.phase) == ((), "", "", "")


@pytest.mark.must_survive(14)
def test_the_main_container_is_the_annotations_else_evaluation_else_the_first_of_the_spec() -> None:
    # Statuses come sorted by name, so that the first of them is anybody.
    def main(names: tuple[str, ...], annotation: str | None = None) -> str:
        statuses = [container_json(running_state(), name) for name in sorted(names)]
        found = main_container(
            job(annotations={"jobcast/container": annotation} if annotation else {}),
            pod(containers=statuses, names=names),
        )
        assert found is not None
        return found.name

    assert main(("zeta", "agent")) == "zeta"
    assert main(("zeta", "evaluation", "agent")) == "evaluation"
    assert main(("zeta", "evaluation", "agent"), "agent") == "agent"
    assert main(("zeta", "agent"), "misspelt") == "zeta"


def test_a_pod_without_container_statuses_has_no_main_container() -> None:
    assert main_container(job(), pod()) is None


def test_a_container_is_read_in_each_of_its_states() -> None:
    (waits,) = pod(waiting_state("ImagePullBackOff")).containers
    assert (waits.state, waits.reason, waits.has_run) == ("waiting", "ImagePullBackOff", False)
    (runs,) = pod(running_state()).containers
    assert (runs.state, runs.started_at, runs.has_run, runs.exit_code) == ("running", RAN, True, None)
    (ended,) = pod(ended_state(3, reason="Error")).containers
    assert (ended.state, ended.exit_code, ended.reason, ended.has_run) == ("terminated", 3, "Error", True)


@pytest.mark.parametrize("state", [None, {}, {"waiting": {}}, {"brewing": {}}])
def test_a_state_that_says_nothing_is_waiting(state: dict[str, Any] | None) -> None:
    (one,) = pod(containers=[container_json(state)]).containers
    assert (one.state, one.has_run) == ("waiting", False)


@pytest.mark.parametrize("started", ["1970-01-01T00:00:00Z", None])
def test_what_the_runtime_could_not_start_has_not_run(started: str | None) -> None:
    (one,) = pod(ended_state(128, started, reason="StartError")).containers
    assert (one.state, one.has_run, one.started_at, one.exit_code) == ("terminated", False, None, 128)


def test_a_restarted_container_has_run_whatever_it_does_now() -> None:
    waits = container_json(waiting_state("CrashLoopBackOff"), restartCount=2, lastState=ended_state(1))
    (one,) = pod(containers=[waits]).containers
    assert (one.has_run, one.restarts) == (True, 2)
    (never,) = pod(containers=[container_json(waiting_state(), lastState=START_ERROR)]).containers
    assert never.has_run is False


def test_times_are_read_as_the_api_server_writes_them() -> None:
    assert unix(CREATED) == 1795168798.0
    assert unix("2026-11-20T09:59:58.250000Z") == 1795168798.25
    assert unix("2026-11-20T10:59:58+01:00") == 1795168798.0
    with pytest.raises(ValueError, match="isoformat"):
        unix("yesterday")


LATER = "2026-11-20T10:05:00Z"


@pytest.mark.must_survive(12)
def test_a_job_with_every_policy_there_is_can_be_read() -> None:
    spec = {
        "completions": 3,
        "completionMode": "Indexed",
        "backoffLimit": 2147483647,
        "backoffLimitPerIndex": 1,
        "maxFailedIndexes": 1,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]},
        "successPolicy": {"rules": [{"succeededCount": 1}]},
        "podReplacementPolicy": "Failed",
        "managedBy": "example.org/queue",
        "suspend": False,
        "ttlSecondsAfterFinished": 0,
    }
    one = job(spec=spec, completedIndexes="0", failedIndexes="1-2", conditions=[condition("FailureTarget")])
    assert (one.completions, one.is_indexed, one.retries) == (3, True, None)
    assert (one.completed_indexes, one.failed_indexes) == ("0", "1-2")
    assert one.target is not None
    assert one.end is None


def test_failed_pods_alone_decide_where_no_policy_does() -> None:
    assert job(spec={"backoffLimit": 2}).retries == 2
    assert job(spec={"backoffLimit": 2, "podFailurePolicy": {"rules": []}}).retries is None
    assert job(spec={"backoffLimit": 2, "backoffLimitPerIndex": 0}).retries is None


def test_annotations_and_our_finalizer_are_read() -> None:
    one = job(
        annotations={"timeout": "soon", "jobcast/artifacts": "[]"}, meta={"finalizers": ["a", "jobcast.dev/outcome"]}
    )
    assert (one.timeout, one.bad_timeout, one.artifacts, one.held) == (None, "soon", "[]", True)
    assert not job(meta={"finalizers": ["a"]}).held


def test_a_pod_that_was_orphaned_is_still_its_jobs() -> None:
    labels = {"batch.kubernetes.io/controller-uid": "the job"}
    assert pod(meta={"ownerReferences": None, "labels": labels}).owner == "the job"
    assert pod(meta={"ownerReferences": None}).owner == ""


def test_when_a_pod_was_asked_to_go_is_before_its_grace_period() -> None:
    one = pod(meta={"deletionTimestamp": LATER, "deletionGracePeriodSeconds": 30})
    assert one.asked == unix(LATER) - 30
    assert one.deleted
    assert not pod().deleted


def test_a_bookmark_with_nothing_but_a_version_can_be_read() -> None:
    whole = {"metadata": {"uid": "x", "name": "y", "resourceVersion": "7"}, "spec": None, "status": None}
    assert JOBS.one(json.dumps(whole).encode(), READING).version == 7


@pytest.mark.must_survive(9)
def test_a_container_that_was_seen_to_end_was_not_killed_by_what_came_after() -> None:
    store, one = Store(), job(startTime=RAN)
    store.put_job(one)
    store.put_pod(pod(ended_state(0), version=1, phase="Running"))
    asked = {"deletionTimestamp": ENDED, "deletionGracePeriodSeconds": 0}
    store.put_pod(pod(ended_state(0), version=2, phase="Succeeded", meta=asked))
    (kept,) = store.pods(one.uid)
    assert kept.ended_first == ("main",), "it ended in the same second, and before"
    store.put_pod(pod(ended_state(0), version=3, phase="Succeeded", meta=asked))
    (kept,) = store.pods(one.uid)
    assert kept.ended_first == ("main",), "and a later look does not change that"


def test_a_container_that_was_not_seen_to_end_may_have_been_killed() -> None:
    store, one = Store(), job(startTime=RAN)
    store.put_job(one)
    store.put_pod(pod(running_state(), version=1))
    asked = {"deletionTimestamp": ENDED, "deletionGracePeriodSeconds": 0}
    store.put_pod(pod(ended_state(0), version=2, meta=asked))
    (kept,) = store.pods(one.uid)
    assert (kept.asked, kept.ended_first) == (unix(ENDED), ())
    store.put_pod(pod(ended_state(0), version=3))
    (kept,) = store.pods(one.uid)
    assert kept.asked == unix(ENDED), "nobody takes a deletion back"


def test_times_that_are_none_do_not_stop_the_watch() -> None:
    store, one = Store(), job(startTime=RAN)
    store.put_job(one)
    store.put_pod(pod(ended_state(0, finished="yesterday"), version=1))
    store.put_pod(pod(ended_state(0, finished="yesterday"), version=2, meta={"deletionTimestamp": ENDED}))
    store.put_pod(pod(containers=[container_json(None)], version=3, meta={"deletionTimestamp": "soon"}))
    assert len(store.pods(one.uid)) == 1
