"""What happens while no controller runs, with and without a finalizer that holds the Job until its end is published."""

import pytest

from tests.api import is_running
from tests.fates.fate import Fate, stays

RUNS = "trap 'exit 3' TERM; echo hi; sleep 300 & wait"


@pytest.mark.must_survive(10)
async def test_finishes_while_no_replica_runs(own_fate: Fate) -> None:
    fate = own_fate
    job = await fate.run("echo missed; exit 5")
    await fate.api.ended(job.name)
    controller = await fate.stage.parts.controller()
    end = await fate.ends(job, "running", "failed 5 BackoffLimitExceeded")
    await fate.is_log(end["log"], b"missed\n")
    controller.stop()
    await fate.stage.parts.controller()
    await stays(lambda: fate.told_of(job) == ["running", "failed 5 BackoffLimitExceeded"])


@pytest.mark.must_survive(9, 10)
async def test_starts_before_and_is_gone_after_no_replica_ran(own_fate: Fate) -> None:
    fate = own_fate
    controller = await fate.stage.parts.controller()
    job = await fate.run(RUNS)
    await fate.until(job, "running")
    controller.stop()
    await fate.delete(job)
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")
    await fate.stage.parts.controller()
    end = await fate.ends(job, "running", "cancelled")
    assert (end["reason"], end["last_status"]) == ("JobDeleted", "running")


@pytest.mark.must_survive(10)
async def test_finishes_while_no_replica_runs_is_published_and_then_goes(own_fate: Fate) -> None:
    fate = own_fate
    job = await fate.run("echo missed")
    await fate.api.ended(job.name)
    await fate.stage.parts.controller()
    await fate.ends(job, "running", "completed 0")
    await fate.delete(job)
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")
    await stays(lambda: fate.told_of(job) == ["running", "completed 0"])


@pytest.mark.must_survive(16)
async def test_is_complete_and_stuck_in_deletion_before_anybody_looks(own_fate: Fate) -> None:
    fate = own_fate
    job = await fate.run("echo done", finalizers=["example.org/hold"])
    await fate.api.ended(job.name)
    await fate.delete(job)
    await fate.api.job_of(job.name, lambda seen: "deletionTimestamp" in seen["metadata"])
    await fate.stage.parts.controller()
    await fate.ends(job, "running", "completed 0")
    await fate.let_go(job)


@pytest.mark.must_survive(9)
async def test_is_held_until_its_end_is_published(own_fate: Fate) -> None:
    fate = own_fate
    controller = await fate.stage.parts.controller(FINALIZER="true")
    job = await fate.run(f"sleep {fate.stage.a_while}; echo done", ttlSecondsAfterFinished=0)
    await fate.until(job, "running")
    await fate.api.job_of(job.name, lambda seen: "jobcast" in str(seen["metadata"].get("finalizers")))
    controller.kill()
    held = await fate.api.job_of(job.name, lambda seen: "deletionTimestamp" in seen["metadata"])
    assert held["status"]["succeeded"] == 1, "it would be gone by now, as its Pod is"
    await fate.stage.parts.controller(FINALIZER="true")
    end = await fate.ends(job, "running", "completed -")
    assert end["reason"] == "CompletionsReached"
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")


@pytest.mark.must_survive(9)
async def test_is_deleted_while_no_replica_runs_and_held(own_fate: Fate) -> None:
    fate = own_fate
    controller = await fate.stage.parts.controller(FINALIZER="true")
    job = await fate.run(RUNS)
    await fate.until(job, "running")
    await fate.api.job_of(job.name, lambda seen: "jobcast" in str(seen["metadata"].get("finalizers")))
    controller.kill()
    await fate.delete(job)
    await fate.api.job_of(job.name, lambda seen: "deletionTimestamp" in seen["metadata"])
    await fate.stage.parts.controller(FINALIZER="true")
    end = await fate.ends(job, "running", "cancelled")
    assert end["last_status"] == "running"
    await fate.api.gone(f"{fate.api.jobs}/{job.name}")


async def test_holds_nothing_once_it_is_published(own_fate: Fate) -> None:
    fate = own_fate
    await fate.stage.parts.controller(FINALIZER="true")
    job = await fate.run("echo done")
    await fate.ends(job, "running", "completed 0")
    await fate.api.job_of(job.name, lambda seen: not seen["metadata"].get("finalizers"))
    other = await fate.run(RUNS, name="other")
    await fate.until(other, "running")
    await fate.delete(other)
    await fate.ends(other, "running", "cancelled")
    await fate.api.gone(f"{fate.api.jobs}/{other.name}")
    assert not is_running(await fate.api.pod_of(job.name))
