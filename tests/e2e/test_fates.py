"""What a plain subscriber hears of real Jobs, from start to end."""

from datetime import datetime

import pytest

from tests.conftest import eventually
from tests.e2e.cluster import Cluster, manifest
from tests.e2e.parts import Parts, Told


async def test_a_job_that_succeeds_is_told_running_then_completed_with_its_exact_output(
    cluster: Cluster, parts: Parts, told: Told
) -> None:
    await parts.controller()
    uid = await cluster.create(manifest("good", """echo '{"score": 0.5}'"""))
    end = await told.end_of("good")
    assert [event["status"] for event in told.of("good")] == ["running", "completed"]
    assert [event["status"] for event in await told.stream()] == ["running", "completed"]
    assert await told.stream() == told.of("good")
    assert end["exit_code"] == 0
    assert end["output"] == '{"score": 0.5}\n'
    assert end["log"]["state"] == "complete"
    assert end["log"]["bytes"] == 15
    assert end["job"] == {"namespace": cluster.namespace, "name": "good", "uid": uid}
    complete = next(c for c in (await cluster.get("good"))["status"]["conditions"] if c["type"] == "Complete")
    assert end["reason"] == complete["reason"]
    assert end["timestamp"] == datetime.fromisoformat(complete["lastTransitionTime"]).timestamp()
    (attempt,) = end["attempts"]
    assert attempt["exit_code"] == 0
    assert attempt["reason"] == "Completed"


async def test_a_job_that_fails_is_told_with_its_exit_code_and_reason(
    cluster: Cluster, parts: Parts, told: Told
) -> None:
    await parts.controller()
    await cluster.create(manifest("bad", "echo oops >&2; exit 3"))
    end = await told.end_of("bad")
    assert [event["status"] for event in told.of("bad")] == ["running", "failed"]
    assert (end["exit_code"], end["reason"], end["output"]) == (3, "BackoffLimitExceeded", "oops\n")
    assert end["error"].startswith("BackoffLimitExceeded: ")


@pytest.mark.must_survive(11)
async def test_a_failed_attempt_that_is_retried_is_no_failure(cluster: Cluster, parts: Parts, told: Told) -> None:
    await parts.controller()
    job = manifest("retried", "test -e /state/once || { touch /state/once; exit 1; }; echo done", backoffLimit=6)
    pod = job["spec"]["template"]["spec"]
    pod["restartPolicy"] = "OnFailure"
    pod["volumes"] = [{"name": "state", "emptyDir": {}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "state", "mountPath": "/state"}]
    await cluster.create(job)
    end = await told.end_of("retried", 120)
    assert [event["status"] for event in told.of("retried")] == ["running", "completed"]
    assert (end["exit_code"], end["output"]) == (0, "done\n")
    assert [attempt["restarts"] for attempt in end["attempts"]] == [1]


async def test_a_job_that_is_deleted_is_cancelled(cluster: Cluster, parts: Parts, told: Told) -> None:
    await parts.controller()
    await cluster.create(manifest("gone", "sleep 300"))
    await eventually(lambda: told.of("gone"), 60)
    await cluster.delete("gone")
    end = await told.end_of("gone")
    assert [event["status"] for event in told.of("gone")] == ["running", "cancelled"]
    assert end["last_status"] == "running"


@pytest.mark.must_survive(9)
async def test_a_foreground_deletion_is_told_once(cluster: Cluster, parts: Parts, told: Told) -> None:
    await parts.controller()
    await cluster.create(manifest("gone", "sleep 300"))
    await eventually(lambda: told.of("gone"), 60)
    await cluster.delete("gone", "Foreground")
    await told.end_of("gone")

    async def is_gone() -> bool:
        try:
            await cluster.get("gone")
        except AssertionError:
            return True
        return False

    await eventually(is_gone, 60)
    assert list((await told.statuses()).values()) == [["running", "cancelled"]]


async def test_a_deadline_is_told_with_what_was_printed_before_it(cluster: Cluster, parts: Parts, told: Told) -> None:
    await parts.controller()
    await cluster.create(manifest("late", "echo waiting; sleep 300", activeDeadlineSeconds=3))
    end = await told.end_of("late")
    assert [event["status"] for event in told.of("late")] == ["running", "failed"]
    assert (end["reason"], end["output"]) == ("DeadlineExceeded", "waiting\n")
    assert end["exit_code"] in (137, 143)


async def test_a_job_that_could_never_start_has_no_running(cluster: Cluster, parts: Parts, told: Told) -> None:
    await parts.controller()
    job = manifest("stuck", "true", activeDeadlineSeconds=4)
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "jobcast.invalid/does-not-exist:1"
    await cluster.create(job)
    end = await told.end_of("stuck")
    assert [event["status"] for event in told.of("stuck")] == ["failed"]
    assert (end["exit_code"], end["reason"]) == (None, "DeadlineExceeded")
    assert end["log"]["state"] == "unavailable"


@pytest.mark.must_survive(12)
async def test_suspended_and_resumed_are_told_each_time(cluster: Cluster, parts: Parts, told: Told) -> None:
    await parts.controller()
    await cluster.create(manifest("paused", "sleep 3; echo done", suspend=True))
    await eventually(lambda: len(told.of("paused")) == 1, 60)
    await cluster.patch("paused", {"spec": {"suspend": False}})
    await eventually(lambda: len(told.of("paused")) == 2, 60)
    await cluster.patch("paused", {"spec": {"suspend": True}})
    await eventually(lambda: len(told.of("paused")) == 3, 60)
    await cluster.patch("paused", {"spec": {"suspend": False}})
    await told.end_of("paused")
    statuses = [event["status"] for event in told.of("paused")]
    assert statuses == ["suspended", "running", "suspended", "running", "completed"]
    assert len({event["id"] for event in told.of("paused")}) == 5


@pytest.mark.must_survive(17)
async def test_bytes_that_are_not_text_are_counted_exactly(cluster: Cluster, parts: Parts, told: Told) -> None:
    await parts.controller()
    await cluster.create(manifest("bytes", r"""printf '{"a": 1}\377\376\000\n'"""))
    end = await told.end_of("bytes")
    assert end["log"]["bytes"] == 12
    assert end["output"] == '{"a": 1}\ufffd\ufffd\x00\n'


async def test_parallel_and_indexed_attempts_are_all_listed(cluster: Cluster, parts: Parts, told: Told) -> None:
    await parts.controller()
    await cluster.create(
        manifest("many", "echo $JOB_COMPLETION_INDEX", completions=3, parallelism=3, completionMode="Indexed")
    )
    end = await told.end_of("many")
    assert [event["status"] for event in told.of("many")] == ["running", "completed"]
    assert sorted(attempt["index"] for attempt in end["attempts"]) == [0, 1, 2]
    assert {attempt["exit_code"] for attempt in end["attempts"]} == {0}


@pytest.mark.must_survive(16)
async def test_a_complete_job_stuck_in_deletion_is_completed(cluster: Cluster, parts: Parts, told: Told) -> None:
    job = manifest("held", "echo done")
    job["metadata"]["finalizers"] = ["example.org/hold"]
    await cluster.create(job)
    await eventually(lambda: cluster.is_finished("held"), 60)
    await cluster.delete("held")
    assert (await cluster.get("held"))["metadata"]["deletionTimestamp"]
    await parts.controller()
    await told.end_of("held")
    await cluster.patch("held", {"metadata": {"finalizers": None}})
    await cluster.create(manifest("after", "true"))
    await told.end_of("after")
    assert [event["status"] for event in told.of("held")] == ["running", "completed"]
