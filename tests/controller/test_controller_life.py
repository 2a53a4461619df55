"""From a Job's life in the cluster to what a subscriber hears of it."""

from typing import Any

import pytest

from tests.conftest import eventually
from tests.controller.world import Obj, World, container, make_job

NEVER = "does-not-exist:1"


async def test_a_job_that_succeeds_is_published_running_and_completed_with_its_exact_output(world: World) -> None:
    async with world.controller():
        made = await world.run("good", """printf '{"score": 0.5}'""", eval_id="eval-7", labels={"pipeline": "p1"})
        event = await world.until("good", "completed")
    running, completed = await world.published("good")
    assert completed == event
    assert running["status"] == "running"
    assert running["executor_id"] == running["container_id"] == "good"
    assert event["output"] == '{"score": 0.5}'
    assert event["exit_code"] == 0
    assert event["eval_id"] == "eval-7"
    assert event["error"] is None
    assert event["job"] == {"namespace": world.namespace, "name": "good", "uid": made["metadata"]["uid"]}
    assert event["metadata"]["job_name"] == "good"
    assert event["metadata"]["pipeline"] == "p1"
    assert event["metadata"]["completed_at"] == event["time"]
    assert event["log"]["state"] == "complete"
    assert event["log"]["bytes"] == 14
    assert [attempt["exit_code"] for attempt in event["attempts"]] == [0]


async def test_a_job_that_fails_is_published_with_exit_code_and_reason(world: World) -> None:
    async with world.controller():
        await world.run("bad", "echo oops; exit 3")
        event = await world.until("bad", "failed")
    assert await world.statuses("bad") == ["running", "failed"]
    assert (event["exit_code"], event["reason"], event["output"]) == (3, "BackoffLimitExceeded", "oops\n")
    assert event["error"].startswith("BackoffLimitExceeded: ")
    assert event["metadata"]["failed_at"] == event["time"]


@pytest.mark.must_survive(11)
async def test_a_retry_that_succeeds_is_never_published_as_failed(world: World, tmp_path: Any) -> None:
    script = f"if [ -e {tmp_path}/again ]; then echo second; else touch {tmp_path}/again; echo first; exit 1; fi"
    async with world.controller():
        await world.run("retried", script, backoffLimit=3)
        event = await world.until("retried", "completed")
    assert await world.statuses("retried") == ["running", "completed"]
    assert event["output"] == "second\n"
    assert sorted(attempt["exit_code"] for attempt in event["attempts"]) == [0, 1]


@pytest.mark.must_survive(20)
async def test_a_container_restarted_in_place_is_published_with_the_log_of_its_last_run(
    world: World, tmp_path: Any
) -> None:
    """The log of the first run is read ahead, while the Pod is restarting; it is not the Job's."""
    script = (
        f"if [ -e {tmp_path}/again ]; then sleep 0.5; echo second; else touch {tmp_path}/again; echo first; exit 1; fi"
    )
    async with world.controller():
        await world.run("restarted", script, pod={"restartPolicy": "OnFailure"}, backoffLimit=3)
        event = await world.until("restarted", "completed")
    assert event["output"] == "second\n"
    assert event["attempts"][0]["restarts"] == 1
    assert await world.statuses("restarted") == ["running", "completed"]


async def test_a_deadline_is_published_as_failed_with_its_reason(world: World) -> None:
    async with world.controller():
        await world.run("slow", "echo begun; sleep 60", activeDeadlineSeconds=1)
        running = await world.until("slow", "running")
        event = await world.until("slow", "failed")
    assert running["timeout"] == 1
    assert event["reason"] == "DeadlineExceeded"
    assert await world.statuses("slow") == ["running", "failed"]


@pytest.mark.must_survive(9)
@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_a_job_deleted_half_way_is_published_as_cancelled(world: World, policy: str) -> None:
    async with world.controller():
        await world.run("dropped", "sleep 60")
        await world.until("dropped", "running")
        await world.delete("dropped", policy)
        event = await world.until("dropped", "cancelled")
    assert event["reason"] in ("JobDeleted", "JobBeingDeleted")
    assert (event["job_name"], event["last_status"]) == ("dropped", "running")
    assert event["cancelled_at"] == event["time"]
    assert await world.statuses("dropped") == ["running", "cancelled"]


async def test_a_job_suspended_from_the_start_is_published_so_and_runs_when_it_is_resumed(world: World) -> None:
    async with world.controller():
        await world.run("queued", "echo done", suspend=True)
        event = await world.until("queued", "suspended")
        assert event["reason"] == "JobSuspended"
        assert await world.statuses("queued") == ["suspended"]
        await world.patch("queued", {"spec": {"suspend": False}})
        await world.until("queued", "completed")
    assert await world.statuses("queued") == ["suspended", "running", "completed"]


async def test_a_job_suspended_while_it_runs_is_published_running_again_after_it_is_resumed(
    world: World, tmp_path: Any
) -> None:
    async with world.controller():
        await world.run("paused", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo done")
        first = await world.until("paused", "running")
        started = (await world.job("paused"))["status"]["startTime"]  # type: ignore[index]
        # Ids of running hang on the start time, which is kept in whole seconds, on a real server too.
        await eventually(lambda: _is_past(started))
        await world.patch("paused", {"spec": {"suspend": True}})
        await world.until("paused", "suspended")
        await world.patch("paused", {"spec": {"suspend": False}})

        async def twice() -> bool:
            return (await world.statuses("paused")).count("running") == 2

        await eventually(twice)
        (tmp_path / "go").touch()
        await world.until("paused", "completed")
    events = await world.published("paused")
    assert [event["status"] for event in events] == ["running", "suspended", "running", "completed"]
    assert events[0] == first
    assert events[2]["id"] != first["id"]


@pytest.mark.must_survive(12)
async def test_an_indexed_job_that_runs_in_parallel_is_published_once_with_every_attempt(world: World) -> None:
    async with world.controller():
        await world.run(
            "indexed", 'echo "index $JOB_COMPLETION_INDEX"', completionMode="Indexed", completions=4, parallelism=3
        )
        event = await world.until("indexed", "completed")
    assert await world.statuses("indexed") == ["running", "completed"]
    assert sorted(attempt["index"] for attempt in event["attempts"]) == [0, 1, 2, 3]
    assert event["output"].startswith("index ")


@pytest.mark.must_survive(9)
async def test_a_job_that_is_removed_the_moment_it_ends_is_published_with_its_true_end(world: World) -> None:
    async with world.controller():
        await world.run("fleeting", "echo gone; exit 4", ttlSecondsAfterFinished=0)
        event = await world.until("fleeting", "failed")

        async def is_gone() -> bool:
            return await world.job("fleeting") is None

        await eventually(is_gone)
    assert await world.statuses("fleeting") == ["running", "failed"]
    assert event["exit_code"] == 4


async def test_a_job_without_an_id_is_published_under_its_name_and_counted(world: World) -> None:
    async with world.controller() as replica:
        before = await replica.metric("jobcast_jobs_without_eval_id_total")
        await world.run("nameless", eval_id=None)
        event = await world.until("nameless", "completed")
        assert await replica.metric("jobcast_jobs_without_eval_id_total") == before + 1
    assert event["eval_id"] == "nameless"


async def test_an_id_in_an_annotation_counts_where_there_is_no_label(world: World) -> None:
    long = "an id that no label could carry: " + "x" * 100
    async with world.controller():
        await world.run("annotated", eval_id=None, annotations={"eval-id": long})
        assert (await world.until("annotated", "completed"))["eval_id"] == long


async def test_a_job_without_labels_is_not_ours_and_affects_no_other(world: World) -> None:
    async with world.controller():
        unlabelled = make_job("unlabelled")
        del unlabelled["metadata"]["labels"]
        await world.create(unlabelled)
        await eventually(lambda: world.has_ended("unlabelled"))
        await world.run("ours")
        await world.until("ours", "completed")
    assert await world.statuses("unlabelled") == []


async def test_a_job_without_status_is_pending_and_unpublished(world: World) -> None:
    async with world.controller():
        await world.run("foreign", managedBy="example.com/nobody")
        await world.run("other")
        await world.until("other", "completed")
        assert await world.statuses("foreign") == []


@pytest.mark.must_survive(15)
async def test_two_jobs_of_one_name_are_two_jobs_with_two_ends(world: World) -> None:
    async with world.controller():
        first = await world.run("again", "sleep 60")
        await world.until("again", "running")
        await world.delete("again")

        async def is_gone() -> bool:
            return await world.job("again") is None

        await eventually(is_gone)
        second = await world.run("again", "echo second")

        async def ends() -> dict[str, str]:
            ended = {
                e["job"]["uid"]: e["status"]
                for e in await world.published()
                if e["status"] in ("cancelled", "completed")
            }
            return ended if len(ended) == 2 else {}

        found = await eventually(ends)
    assert found == {first["metadata"]["uid"]: "cancelled", second["metadata"]["uid"]: "completed"}


async def test_a_job_whose_image_never_comes_is_published_failed_and_never_running(world: World) -> None:
    async with world.controller():
        job = make_job("unpulled", containers=[container("main", "true", image=NEVER)], activeDeadlineSeconds=1)
        await world.create(job)
        event = await world.until("unpulled", "failed")
    assert await world.statuses("unpulled") == ["failed"]
    assert event["reason"] == "DeadlineExceeded"
    assert event["exit_code"] is None
    assert (event["output"], event["log"]["bytes"]) == ("", 0)


@pytest.mark.must_survive(14)
async def test_a_sidecar_that_stays_keeps_the_job_running_and_does_not_decide_its_exit_code(
    world: World, tmp_path: Any
) -> None:
    sidecar = container("a-proxy", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo sidecar; exit 0")
    main = container("evaluation", "echo main; exit 7")
    async with world.controller():
        await world.create(make_job("accompanied", containers=[sidecar, main]))

        async def main_ended() -> bool:
            states = (await world.pod_of("accompanied"))["status"].get("containerStatuses") or []
            return any(c["name"] == "evaluation" and "terminated" in c["state"] for c in states)

        await eventually(main_ended)
        await world.until("accompanied", "running")
        await world.run("witness")
        await world.until("witness", "completed")
        assert await world.statuses("accompanied") == ["running"], "only the condition ends a Job"
        (tmp_path / "go").touch()
        event = await world.until("accompanied", "failed")
    assert (event["exit_code"], event["output"]) == (7, "main\n")


async def test_the_main_container_may_be_named_by_an_annotation(world: World) -> None:
    pair = [container("evaluation", "echo decoy"), container("chosen", "echo chosen")]
    async with world.controller():
        await world.create(make_job("annotated", containers=pair, annotations={"jobcast/container": "chosen"}))
        event = await world.until("annotated", "completed")
    assert event["output"] == "chosen\n"
    assert event["metadata"]["log_source"].endswith("/chosen")


@pytest.mark.must_survive(12)
async def test_a_job_that_somebody_else_manages_is_published_from_its_status_alone(world: World) -> None:
    def status(**fields: Any) -> Obj:
        return {"status": fields}

    started = "2026-01-31T12:00:00Z"
    async with world.controller():
        await world.run("elsewhere", managedBy="example.com/multikueue")
        await world.patch("elsewhere", status(startTime=started, active=1, ready=1), "status")
        running = await world.until("elsewhere", "running")
        heralds = [condition("SuccessCriteriaMet", "CompletionsReached")]
        await world.patch("elsewhere", status(active=0, ready=0, succeeded=1, conditions=heralds), "status")
        done = [*heralds, condition("Complete", "CompletionsReached")]
        end = status(succeeded=1, completionTime="2026-01-31T12:00:09Z", conditions=done, uncountedTerminatedPods={})
        await world.patch("elsewhere", end, "status")
        event = await world.until("elsewhere", "completed")
    assert running["started_at"] == started
    assert await world.statuses("elsewhere") == ["running", "completed"]
    assert event["exit_code"] is None
    assert (event["log"]["state"], event["log"]["reason"]) == ("unavailable", "no-pod")
    assert event["attempts"] == []
    assert event["duration_seconds"] == 9


def condition(kind: str, reason: str) -> Obj:
    time = "2026-01-31T12:00:09Z"
    return {"type": kind, "status": "True", "reason": reason, "lastProbeTime": time, "lastTransitionTime": time}


def _is_past(stamp: str) -> bool:
    import time
    from datetime import datetime

    return time.time() > datetime.fromisoformat(stamp).timestamp() + 1.01
