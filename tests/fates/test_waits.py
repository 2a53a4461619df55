"""Jobs whose Pods wait, for an image, for a node, or because somebody suspended them."""

import asyncio
import time

import pytest

from jobcast.jobs.model import unix
from tests.fates.fate import Fate

NOWHERE = {"image": "jobcast.invalid/does-not-exist:1"}
REASONS = ("ErrImagePull", "ImagePullBackOff")


async def test_has_an_image_that_cannot_be_pulled_until_its_deadline(fate: Fate) -> None:
    job = await fate.run(main=NOWHERE, activeDeadlineSeconds=600)
    waiting = await fate.says(job, "waiting")
    assert waiting["reason"] in REASONS
    assert NOWHERE["image"] in waiting["message"]
    assert waiting["pod"].startswith(f"{job.name}-")
    await fate.patch(job, {"spec": {"activeDeadlineSeconds": 1}})
    end = await fate.ends(job, "failed - DeadlineExceeded")
    assert (end["log"]["state"], end["log"]["reason"], end["container"]) == ("unavailable", "never-started", None)
    assert "waiting" not in await fate.record(job)


async def test_has_an_image_that_cannot_be_pulled_until_it_is_deleted(fate: Fate) -> None:
    job = await fate.run(main=NOWHERE)
    assert (await fate.says(job, "waiting"))["reason"] in REASONS
    await fate.delete(job)
    end = await fate.ends(job, "cancelled")
    assert end["last_status"] == "pending"
    assert "waiting" not in await fate.record(job)


async def test_fits_on_no_node(fate: Fate) -> None:
    job = await fate.run(pod={"nodeSelector": {"no-such": "node"}})
    waiting = await fate.says(job, "waiting")
    assert waiting["reason"] == "Unschedulable"
    assert "nodes are available" in waiting["message"]
    await fate.delete(job)
    end = await fate.ends(job, "cancelled")
    assert end["last_status"] == "pending"


@pytest.mark.must_survive(12)
async def test_is_suspended_when_it_is_made_and_resumed(fate: Fate) -> None:
    """As Kueue does."""
    job = await fate.run("echo done", suspend=True)
    event = await fate.until(job, "suspended")
    assert event["reason"] == "JobSuspended"
    await fate.patch(job, {"spec": {"suspend": False}})
    end = await fate.ends(job, "suspended", "running", "completed 0")
    await fate.is_log(end["log"], b"done\n")


@pytest.mark.must_survive(12)
async def test_is_suspended_while_it_runs_and_resumed(fate: Fate) -> None:
    job = await fate.run(f"trap 'exit 7' TERM; sleep {fate.stage.a_while} & wait; echo done")
    started = (await fate.until(job, "running"))["started_at"]
    # A start is known by its second.
    while time.time() < unix(started) + 1:
        await asyncio.sleep(0.05)
    await fate.patch(job, {"spec": {"suspend": True}})
    await fate.until(job, "suspended")
    await fate.patch(job, {"spec": {"suspend": False}})
    end = await fate.ends(job, "running", "suspended", "running", "completed 0")
    await fate.is_log(end["log"], b"done\n")
    first, _, second, _ = fate.events(job)
    assert first["started_at"] < second["started_at"]


async def test_is_suspended_and_deleted(fate: Fate) -> None:
    job = await fate.run(suspend=True)
    await fate.until(job, "suspended")
    await fate.delete(job)
    end = await fate.ends(job, "suspended", "cancelled")
    assert end["last_status"] == "suspended"


@pytest.mark.must_survive(12, 33)
async def test_is_resumed_with_many_pods_that_fail_at_once(fate: Fate) -> None:
    """The Job controller makes Pods for a second or more before it writes startTime."""
    job = await fate.run("exit 3", suspend=True, parallelism=20, completions=20)
    await fate.until(job, "suspended")
    await fate.patch(job, {"spec": {"suspend": False}})
    end = await fate.until(job, "failed")
    assert [event["status"] for event in fate.events(job)] == ["suspended", "running", "failed"]
    assert (end["exit_code"], end["log"]["state"]) == (3, "complete")
