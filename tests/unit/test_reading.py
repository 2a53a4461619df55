"""What of the API server's JSON reaches a Job and a Pod, beyond what test_job.py tries."""

import json

import pytest

from controller.store import Store
from jobcast.jobs.model import unix
from jobcast.kube import JOBS
from tests.unit.objects import ENDED, RAN, READING, condition, container_json, ended_state, job, pod, running_state

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
    assert kept.asked == unix(ENDED) + 1, "it ended in the same second, and before"


def test_a_container_that_was_not_seen_to_end_may_have_been_killed() -> None:
    store, one = Store(), job(startTime=RAN)
    store.put_job(one)
    store.put_pod(pod(running_state(), version=1))
    asked = {"deletionTimestamp": ENDED, "deletionGracePeriodSeconds": 0}
    store.put_pod(pod(ended_state(0), version=2, meta=asked))
    (kept,) = store.pods(one.uid)
    assert kept.asked == unix(ENDED)
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
