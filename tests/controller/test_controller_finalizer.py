"""FINALIZER=true: no Job is gone before its end is published, and none stays because of it."""

import signal
from pathlib import Path
from typing import Any

import pytest

from jobcast.jobs.model import FINALIZER
from jobcast.reconcile.sweep import sweep_once
from jobcast.service.settings import CoreSettings
from testbed.valkey import ValkeyServer
from tests.conftest import eventually
from tests.controller.processes import Process
from tests.controller.world import World, make_job, sample

THEIRS = "example.com/theirs"
HOLDS = {"FINALIZER": "true"}


async def finalizers(world: World, name: str) -> list[str] | None:
    """None for a Job that is gone."""
    job = await world.job(name)
    return None if job is None else job["metadata"].get("finalizers", [])


async def held(world: World, name: str) -> None:
    async def is_held() -> bool:
        return FINALIZER in (await finalizers(world, name) or [])

    await eventually(is_held)


async def gone(world: World, name: str) -> None:
    async def is_gone() -> bool:
        return await world.job(name) is None

    await eventually(is_gone)


async def going(world: World, name: str) -> None:
    async def is_going() -> bool:
        return "deletionTimestamp" in ((await world.job(name)) or {}).get("metadata", {})

    await eventually(is_going)


async def bare(world: World, name: str) -> None:
    """Without finalizers, and there."""

    async def is_bare() -> bool:
        return await finalizers(world, name) == []

    await eventually(is_bare)


def _both(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return lines if len(lines) == 2 else []


def gated(tmp_path: Path, name: str, **spec: object) -> dict[str, object]:
    return {"script": f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo {name}", **spec}


async def test_a_job_is_held_from_the_first_look_until_its_end_is_published(world: World, tmp_path: Path) -> None:
    await world.run("old", managedBy="example.com/nobody")
    with Process(world, tmp_path, **HOLDS) as process:
        await process.ready()
        await held(world, "old")
        await world.run("quiet", suspend=True)
        await held(world, "quiet")
        await world.run("new", **gated(tmp_path, "new"))
        await held(world, "new")
        await world.create({**make_job("not-ours"), "metadata": {"name": "not-ours"}})
        (tmp_path / "go").touch()
        await world.until("new", "completed")
        await bare(world, "new")
        assert await finalizers(world, "not-ours") == []
    assert await world.statuses("new") == ["running", "completed"]


async def test_without_the_setting_no_job_is_held(world: World, tmp_path: Path) -> None:
    with Process(world, tmp_path) as process:
        await process.ready()
        await world.run("a", "sleep 0.3")
        await world.until("a", "completed")
    assert not world.wiretap.of("patch")


@pytest.mark.must_survive(9)
@pytest.mark.must_survive(10)
async def test_a_job_with_a_ttl_of_0_that_ends_while_no_controller_runs_is_published_and_then_goes(
    world: World, tmp_path: Path
) -> None:
    with Process(world, tmp_path, **HOLDS) as first:
        await first.ready()
        await world.run("brief", **gated(tmp_path, "brief", ttlSecondsAfterFinished=0))
        await world.until("brief", "running")
        await held(world, "brief")
        first.signal(signal.SIGKILL)
        await first.exit_code()
    (tmp_path / "go").touch()
    await going(world, "brief")
    with Process(world, tmp_path, **HOLDS):
        await world.until("brief", "completed")
        await gone(world, "brief")
    assert await world.statuses("brief") == ["running", "completed"]


@pytest.mark.must_survive(9)
async def test_a_job_that_is_deleted_while_no_controller_runs_is_cancelled_and_then_goes(
    world: World, tmp_path: Path
) -> None:
    with Process(world, tmp_path, **HOLDS) as first:
        await first.ready()
        await world.run("dropped", "sleep 60")
        await held(world, "dropped")
        await world.until("dropped", "running")
    await world.delete("dropped")
    await going(world, "dropped")
    with Process(world, tmp_path, **HOLDS):
        await world.until("dropped", "cancelled")
        await gone(world, "dropped")
    assert await world.statuses("dropped") == ["running", "cancelled"]


async def test_a_job_that_is_deleted_while_we_look_is_cancelled_and_goes_at_once(world: World, tmp_path: Path) -> None:
    with Process(world, tmp_path, **HOLDS) as process:
        await process.ready()
        await world.run("dropped", "sleep 60")
        await held(world, "dropped")
        await world.until("dropped", "running")
        await world.delete("dropped")
        await world.until("dropped", "cancelled")
        await gone(world, "dropped")
        assert not process.lines("finalizer removed before the job was published")


async def test_the_finalizers_of_others_are_left_alone(world: World, tmp_path: Path) -> None:
    job = make_job("shared", **gated(tmp_path, "shared"))
    job["metadata"]["finalizers"] = [THEIRS]
    with Process(world, tmp_path, **HOLDS) as process:
        await process.ready()
        await world.create(job)
        await held(world, "shared")
        (tmp_path / "go").touch()
        await world.until("shared", "completed")

        async def is_theirs_alone() -> bool:
            return await finalizers(world, "shared") == [THEIRS]

        await eventually(is_theirs_alone)
        await world.delete("shared")
        assert await finalizers(world, "shared") == [THEIRS]
        await world.patch("shared", {"metadata": {"finalizers": None}})
        await gone(world, "shared")


@pytest.mark.must_survive(31)
async def test_a_controller_killed_between_publishing_and_the_release_releases_after_its_restart(
    world: World, tmp_path: Path
) -> None:
    with Process(world, tmp_path, **HOLDS) as first:
        await first.ready()
        await world.run("published", **gated(tmp_path, "published"))
        await held(world, "published")
        world.fault("status", code=500, verb="patch", times=None)
        (tmp_path / "go").touch()
        await world.until("published", "completed")
        first.signal(signal.SIGKILL)
        await first.exit_code()
    world.cluster.faults.clear()
    assert await finalizers(world, "published") == [FINALIZER]
    with Process(world, tmp_path, **HOLDS):
        await bare(world, "published")
    assert await world.statuses("published") == ["running", "completed"]


@pytest.mark.must_survive(24)
async def test_while_redis_is_down_a_job_is_held_for_so_long_and_published_when_it_is_up(
    persistent_world: World, persistent_valkey: ValkeyServer, tmp_path: Path
) -> None:
    world = persistent_world
    with Process(world, tmp_path, **HOLDS, FINALIZER_MAX_SECONDS="1") as process:
        await process.ready()
        await world.run("brief", **gated(tmp_path, "brief", ttlSecondsAfterFinished=0))
        await world.run("dropped", "sleep 60")
        for name in ("brief", "dropped"):
            await world.until(name, "running")
            await held(world, name)
        persistent_valkey.stop()
        await world.delete("dropped")
        (tmp_path / "go").touch()
        for name in ("brief", "dropped"):
            await gone(world, name)
        let_go = await eventually(lambda: _both(process.lines("finalizer removed before the job was published")))
        assert {line["job"] for line in let_go} == {f"{world.namespace}/brief", f"{world.namespace}/dropped"}
        assert all(line["why"] and line["seconds"] >= 1 for line in let_go)
        _, text = await process.get("/metrics")
        assert sample(text, "jobcast_finalizers_released_unpublished_total") == 2
        persistent_valkey.start()
        await world.until("brief", "completed")
        await world.until("dropped", "cancelled")
    assert await world.statuses("brief") == ["running", "completed"]
    assert await world.statuses("dropped") == ["running", "cancelled"]


async def test_a_job_is_held_for_no_longer_by_a_controller_that_started_without_redis(
    persistent_world: World, persistent_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Its lists are taken in as they are published, so it has none."""
    world = persistent_world
    with Process(world, tmp_path, **HOLDS) as first:
        await first.ready()
        await world.run("dropped", "sleep 60")
        await world.until("dropped", "running")
        await held(world, "dropped")
        first.signal(signal.SIGKILL)
        await first.exit_code()
    persistent_valkey.stop()
    await world.delete("dropped")
    with Process(world, tmp_path, **HOLDS, FINALIZER_MAX_SECONDS="1") as second:
        await second.started()
        await gone(world, "dropped")
        persistent_valkey.start()
        await world.until("dropped", "cancelled")
        await second.ready()
    assert await world.statuses("dropped") == ["running", "cancelled"]


async def test_a_job_is_released_also_when_the_setting_is_off_by_then(world: World, tmp_path: Path) -> None:
    with Process(world, tmp_path, **HOLDS) as first:
        await first.ready()
        for name in ("ends", "dropped"):
            await world.run(name, **gated(tmp_path, name))
            await world.until(name, "running")
            await held(world, name)
        first.signal(signal.SIGKILL)
        await first.exit_code()
    with Process(world, tmp_path) as second:
        await second.ready()
        await world.delete("dropped")
        await world.until("dropped", "cancelled")
        await gone(world, "dropped")
        (tmp_path / "go").touch()
        await world.until("ends", "completed")
        await bare(world, "ends")


@pytest.mark.must_survive(6)
async def test_without_the_permission_jobs_are_still_published_and_the_missing_rule_is_named(
    world: World, tmp_path: Path
) -> None:
    world.fault("status", code=403, verb="patch", times=None)
    names = [f"job-{number}" for number in range(5)]
    with Process(world, tmp_path, **HOLDS) as process:
        await process.ready()
        for name in names:
            await world.run(name)
        for name in names:
            await world.until(name, "completed")
        (line,) = process.lines("cannot add finalizer")
        assert f'cannot patch resource "jobs" in API group "batch" in the namespace "{world.namespace}"' in line["why"]
        assert (
            line["needed"] == 'apiGroups ["batch"], resources ["jobs"], verbs ["patch"], see k8s/components/finalizer'
        )


async def test_a_job_that_cannot_be_held_at_first_is_held_later(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.finalizers.HOLD_AGAIN_SECONDS", 0.1)
    fault = world.fault("status", code=503, verb="patch", times=3)
    async with world.controller(finalizer=True):
        await world.run("quiet", managedBy="example.com/nobody")
        await held(world, "quiet")
        assert fault.times == 0
        await world.delete("quiet")
        await gone(world, "quiet")


async def test_a_release_that_is_refused_is_tried_until_it_succeeds(world: World, tmp_path: Path) -> None:
    with Process(world, tmp_path, **HOLDS) as process:
        await process.ready()
        await world.run("a", **gated(tmp_path, "a"))
        await held(world, "a")
        world.fault("status", code=403, verb="patch", times=None)
        (tmp_path / "go").touch()
        await world.until("a", "completed")
        await eventually(lambda: process.lines("cannot remove finalizer"))
        assert await finalizers(world, "a") == [FINALIZER]
        world.cluster.faults.clear()
        await bare(world, "a")
        _, text = await process.get("/metrics")
        assert sample(text, "jobcast_finalizers_released_unpublished_total") == 0, "it was published"


@pytest.mark.must_survive(32)
async def test_two_replicas_hold_and_release_every_job_and_publish_it_once(world: World, tmp_path: Path) -> None:
    names = [f"job-{number}" for number in range(5)]
    with Process(world, tmp_path, **HOLDS) as one, Process(world, tmp_path, **HOLDS) as other:
        await one.ready()
        await other.ready()
        for name in names:
            await world.run(name, **gated(tmp_path, name))
        for name in names:
            await held(world, name)
        (tmp_path / "go").touch()
        for name in names:
            await world.until(name, "completed")
            await bare(world, name)
            assert await world.statuses(name) == ["running", "completed"]


async def test_a_sweep_holds_and_releases_too(world: World, tmp_path: Path) -> None:
    settings = CoreSettings(
        redis_url=world.redis_url, namespaces=(world.namespace,), key_prefix=world.prefix, finalizer=True
    )
    await world.run("a", **gated(tmp_path, "a"))
    await sweep_once(settings)
    assert await finalizers(world, "a") == [FINALIZER]
    (tmp_path / "go").touch()
    await eventually(lambda: world.has_ended("a"))
    await sweep_once(settings)
    assert (await world.until("a", "completed"))["output"] == "a\n"
    assert await finalizers(world, "a") == []


async def test_a_job_that_loses_its_label_is_let_go(world: World, tmp_path: Path) -> None:
    with Process(world, tmp_path, **HOLDS) as process:
        await process.ready()
        await world.run("relabelled", "sleep 60")
        await world.until("relabelled", "running")
        await held(world, "relabelled")
        await world.patch("relabelled", {"metadata": {"labels": {"app": "other"}}})
        await bare(world, "relabelled")


async def test_a_check_asks_for_the_permission_where_it_is_needed(world: World, tmp_path: Path) -> None:
    world.fault("status", code=403, verb="patch", times=None)
    with Process(world, tmp_path, "--check") as process:
        assert await process.exit_code() == 0
    with Process(world, tmp_path, "--check", **HOLDS) as process:
        assert await process.exit_code() == 1
    (broken,) = [line for line in process.output.splitlines() if line.startswith("broken")]
    assert f"may not patch jobs in {world.namespace}: add it to the Role" in broken
