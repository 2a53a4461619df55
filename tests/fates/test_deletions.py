"""Jobs that are deleted: before their start, while they run, after they ended, and in every way there is."""

import asyncio
import time

import pytest

from jobcast.jobs.model import unix
from tests.api import Obj, container, is_running
from tests.fates.fate import Fate, stays

RUNS = "trap 'exit 3' TERM; echo hi; sleep 300 & wait"
HOLD = "example.org/hold"


async def test_is_deleted_before_it_starts(fate: Fate) -> None:
    job = await fate.run(pod={"nodeSelector": {"no-such": "node"}})
    await fate.says(job, "status", lambda status: status == "pending")
    await fate.delete(job)
    end = await fate.ends(job, "cancelled")
    assert (end["last_status"], end["reason"]) == ("pending", "JobDeleted")


@pytest.mark.must_survive(9)
@pytest.mark.parametrize(("policy", "reason"), [("Background", "JobDeleted"), ("Foreground", "JobBeingDeleted")])
async def test_is_deleted_while_it_runs(fate: Fate, policy: str, reason: str) -> None:
    job = await fate.run(RUNS)
    await fate.until(job, "running")
    await fate.delete(job, policy)
    end = await fate.ends(job, "running", "cancelled")
    assert (end["last_status"], end["reason"]) == ("running", reason)
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")
    assert fate.told_of(job) == ["running", "cancelled"]


@pytest.mark.must_survive(9)
@pytest.mark.parametrize(("code", "status"), [(0, "completed 0"), (5, "failed 5 None")])
async def test_is_deleted_after_its_main_container_ended(fate: Fate, code: int, status: str) -> None:
    """A sidecar keeps it open, so that Kubernetes never says how it ended; its Pod has."""
    manifest = fate.manifest(f"echo done; exit {code}")
    side = container("side", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    manifest["spec"]["template"]["spec"]["containers"].append(side)
    job = await fate.create(manifest)
    attempt = (await fate.moves(job, "main-ended"))["attempt"]
    # Times are whole seconds: an end in the second of the deletion would be taken for its consequence.
    while time.time() < unix(attempt["finished_at"]) + 1:
        await asyncio.sleep(0.05)
    await fate.delete(job)
    end = await fate.ends(job, "running", status, progress=[f"main-ended {code}"])
    assert end["warnings"]
    await fate.is_log(end["log"], b"done\n")


@pytest.mark.must_survive(9)
async def test_is_deleted_and_its_pods_are_kept(fate: Fate) -> None:
    job = await fate.run(RUNS)
    await fate.until(job, "running")
    await fate.delete(job, "Orphan")
    end = await fate.ends(job, "running", "cancelled")
    assert (end["last_status"], end["job"]["uid"]) == ("running", job.uid)
    assert is_running(await fate.api.pod_of(job.name))


@pytest.mark.must_survive(9)
async def test_is_finished_and_then_deleted(fate: Fate) -> None:
    job = await fate.run("echo done")
    await fate.ends(job, "running", "completed 0")
    await fate.delete(job)
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")
    await stays(lambda: fate.told_of(job) == ["running", "completed 0"])


@pytest.mark.must_survive(9)
async def test_goes_with_its_namespace_and_may_be_tried_again(fate: Fate) -> None:
    """Its Pods go first: for the Job controller that is a failed attempt."""
    job = await fate.run(RUNS, backoffLimit=6)
    await fate.until(job, "running")
    await fate.api.raw("DELETE", f"/api/v1/namespaces/{fate.api.namespace}")
    await fate.ends(job, "running", "cancelled", progress=["attempt-ended 3"])


@pytest.mark.must_survive(9)
async def test_goes_with_its_namespace_and_has_no_second_try(fate: Fate) -> None:
    job = await fate.run(RUNS)
    await fate.until(job, "running")
    await fate.api.raw("DELETE", f"/api/v1/namespaces/{fate.api.namespace}")
    end = await fate.ends(job, "running", "failed 3 BackoffLimitExceeded")
    await fate.is_log(end["log"], b"hi\n")


@pytest.mark.must_survive(9)
@pytest.mark.parametrize(
    ("script", "status"), [("echo done", "completed 0"), ("echo done; exit 3", "failed 3 BackoffLimitExceeded")]
)
async def test_is_removed_the_moment_it_ends(fate: Fate, script: str, status: str) -> None:
    job = await fate.run(script, ttlSecondsAfterFinished=0)
    end = await fate.ends(job, "running", status)
    await fate.is_log(end["log"], b"done\n")
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")


@pytest.mark.must_survive(16)
async def test_is_complete_and_stuck_in_deletion(fate: Fate) -> None:
    job = await fate.run("echo done", finalizers=[HOLD])
    await fate.ends(job, "running", "completed 0")
    await fate.delete(job)
    await fate.api.job_of(job.name, lambda seen: "deletionTimestamp" in seen["metadata"])
    await stays(lambda: fate.told_of(job) == ["running", "completed 0"])
    await fate.let_go(job)
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")
    assert fate.told_of(job) == ["running", "completed 0"]


@pytest.mark.must_survive(9)
async def test_is_deleted_while_it_runs_and_stuck(fate: Fate) -> None:
    job = await fate.run(RUNS, finalizers=[HOLD])
    await fate.until(job, "running")
    await fate.delete(job)
    end = await fate.ends(job, "running", "cancelled")
    assert end["reason"] == "JobBeingDeleted"
    await fate.let_go(job)
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")
    await stays(lambda: fate.told_of(job) == ["running", "cancelled"])


@pytest.mark.must_survive(15)
async def test_has_its_name_used_again_at_once(fate: Fate) -> None:
    old = await fate.run(RUNS)
    await fate.until(old, "running")
    await fate.delete(old)
    new = await fate.run("echo new")
    assert (new.name, new.eval_id) == (old.name, old.eval_id)
    assert new.uid != old.uid
    end = await fate.ends(new, "running", "completed 0")
    await fate.is_log(end["log"], b"new\n")
    await fate.ends(old, "running", "cancelled")
    record: Obj = await fate.record(new)
    assert (record["uid"], record["status"]) == (new.uid, "completed")
