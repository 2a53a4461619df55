"""Controllers that end, die, start late, and work side by side: one event per fact."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.controller.processes import Process
from tests.controller.world import World


@pytest.mark.must_survive(10)
async def test_a_job_that_finished_while_no_controller_ran_is_published_once_after_the_start(world: World) -> None:
    async with world.controller():
        await world.run("half", "sleep 0.3; echo half")
        await world.until("half", "running")
    await world.run("whole", "echo whole; exit 5")
    for name in ("half", "whole"):
        await eventually(lambda name=name: world.has_ended(name))
    assert await world.statuses("half") == ["running"]
    async with world.controller():
        half, whole = await world.until("half", "completed"), await world.until("whole", "failed")
    assert (half["output"], whole["output"], whole["exit_code"]) == ("half\n", "whole\n", 5)
    assert await world.statuses("half") == ["running", "completed"]
    assert await world.statuses("whole") == ["running", "failed"]


@pytest.mark.must_survive(10)
async def test_what_was_published_is_not_published_again_after_a_restart(world: World) -> None:
    async with world.controller():
        await world.run("ended")
        await world.run("open", "sleep 60")
        await world.until("ended", "completed")
        await world.until("open", "running")
    logs = len(world.wiretap.of("log"))
    async with world.controller():
        await world.run("witness")
        await world.until("witness", "completed")
        assert await world.statuses("ended") == ["running", "completed"]
        assert await world.statuses("open") == ["running"]
        assert len(world.wiretap.of("log")) == logs + 1, "no log is read again for what was published"


@pytest.mark.must_survive(9)
async def test_a_job_deleted_while_no_controller_ran_is_published_as_cancelled(world: World) -> None:
    async with world.controller():
        await world.run("seen", "sleep 60")
        made = await world.run("pending", managedBy="example.com/nobody")
        await world.until("seen", "running")
        row = f"{{{world.prefix}}}:job:{made['metadata']['uid']}"
        await eventually(lambda: world.redis.exists(row))
    for name in ("seen", "pending"):
        await world.delete(name)
    async with world.controller():
        seen, pending = await world.until("seen", "cancelled"), await world.until("pending", "cancelled")
    assert (seen["last_status"], pending["last_status"]) == ("running", "pending")
    assert await world.statuses("pending") == ["cancelled"]


@pytest.mark.must_survive(31)
async def test_a_controller_killed_while_it_reads_a_log_costs_neither_the_log_nor_an_event(
    world: World, tmp_path: Path
) -> None:
    world.fault("stall", verb="log", after_bytes=2)
    with Process(world, tmp_path) as first:
        await first.ready()
        await world.run("read", "echo all of it")
        await eventually(lambda: world.wiretap.of("log"))
        first.signal(signal.SIGKILL)
        assert await first.exit_code() == -signal.SIGKILL
    with Process(world, tmp_path) as second:
        await second.started()
        event = await world.until("read", "completed")
    assert event["output"] == "all of it\n"
    assert await world.statuses("read") == ["running", "completed"]


@pytest.mark.must_survive(31)
async def test_a_controller_killed_again_and_again_publishes_everything_once(world: World, tmp_path: Path) -> None:
    names = [f"job-{number}" for number in range(12)]
    for round_ in range(3):
        with Process(world, tmp_path) as process:
            await process.started()
            for name in names[round_ * 4 : round_ * 4 + 4]:
                await world.run(name, f"sleep 0.1; echo {name}")
            await asyncio.sleep(0.05 + 0.1 * round_)
            process.signal(signal.SIGKILL)
    async with world.controller():
        for name in names:
            assert (await world.until(name, "completed"))["output"] == f"{name}\n"
            assert await world.statuses(name) == ["running", "completed"]


@pytest.mark.must_survive(32)
@pytest.mark.parametrize("replicas", [2, 3])
async def test_replicas_side_by_side_publish_every_fact_once(world: World, replicas: int, tmp_path: Path) -> None:
    names = [f"job-{number}" for number in range(10)]
    async with asyncio.TaskGroup() as group, world.controller():
        with Process(world, tmp_path) as second, Process(world, tmp_path) as third:
            if replicas == 2:
                third.popen.kill()
            else:
                await third.ready()
            await second.ready()
            for name in names:
                group.create_task(world.run(name, f"echo {name}"))
            for name in names:
                assert (await world.until(name, "completed"))["output"] == f"{name}\n"
                assert await world.statuses(name) == ["running", "completed"]
    read = [request.path for request in world.wiretap.of("log")]
    assert len(read) == len(set(read)) == len(names), "the log of each was read by one replica alone"


@pytest.mark.must_survive(32)
async def test_the_log_that_a_dead_replica_was_reading_is_read_by_another_once_its_claim_lapses(
    world: World, tmp_path: Path
) -> None:
    world.fault("stall", verb="log")
    with Process(world, tmp_path) as first:
        await first.ready()
        await world.run("claimed", "echo all of it")
        await eventually(lambda: world.wiretap.of("log"))
        with Process(world, tmp_path) as second:
            await second.ready()
            await world.run("witness")
            await world.until("witness", "completed")
            assert len(world.wiretap.of("log", name="claimed")) == 1, "it is read by one replica alone"
            first.signal(signal.SIGKILL)
            event = await world.until("claimed", "completed")
            assert len(world.wiretap.of("log", name="claimed")) == 2
    assert (event["output"], event["log"]["state"]) == ("all of it\n", "complete")


@pytest.mark.must_survive(32)
async def test_a_replica_that_stops_releases_its_claims_at_once(world: World, tmp_path: Path) -> None:
    world.fault("stall", verb="log")
    with Process(world, tmp_path) as first:
        await first.ready()
        await world.run("handed-over", "echo all of it")
        await eventually(lambda: world.wiretap.of("log"))
        with Process(world, tmp_path) as second:
            await second.ready()
            first.signal(signal.SIGTERM)
            assert await first.exit_code() == 0
            before = asyncio.get_running_loop().time()
            event = await world.until("handed-over", "completed")
            assert asyncio.get_running_loop().time() - before < 2.5, "sooner than a claim lapses"
    assert event["output"] == "all of it\n"


@pytest.mark.must_survive(32)
async def test_a_replica_that_slept_longer_than_its_claims_live_publishes_nothing_twice(
    world: World, tmp_path: Path
) -> None:
    world.fault("stall", verb="log")
    with Process(world, tmp_path) as sleeper:
        await sleeper.ready()
        await world.run("claimed", "echo all of it")
        await eventually(lambda: world.wiretap.of("log"))
        sleeper.signal(signal.SIGSTOP)
        with Process(world, tmp_path) as other:
            await other.ready()
            event = await world.until("claimed", "completed")
            await world.run("meanwhile", "echo all of it")
            await world.until("meanwhile", "completed")
            published = await world.published()
            sleeper.signal(signal.SIGCONT)
            await sleeper.ready()
            other.signal(signal.SIGTERM)
            assert await other.exit_code() == 0
        await world.run("afterwards")
        await world.until("afterwards", "completed")
        assert (await world.published())[: len(published)] == published
        assert [line["eval_id"] for line in sleeper.lines("published") if line["status"] == "completed"] == [
            "afterwards"
        ]
    assert event["output"] == "all of it\n"


SHIFTED = """
import os, time
real, shift = time.time, float(os.environ["CLOCK_SHIFT"])
time.time = lambda: real() + shift
"""


@pytest.mark.must_survive(33)
@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_replica_whose_clock_is_wrong_by_hours_decides_and_publishes_like_any_other(
    world: World, tmp_path: Path, hours: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIFTED)
    shift = str(hours * 3600)
    await world.run("before", "echo all of it")
    await eventually(lambda: world.has_ended("before"))
    with Process(world, tmp_path, PYTHONPATH=str(tmp_path), CLOCK_SHIFT=shift) as wrong:
        await wrong.ready()
        for name in ("dropped", "open"):
            await world.run(name, "sleep 60")
            await world.until(name, "running")
        await world.delete("dropped")
        cancelled = await world.until("dropped", "cancelled")
        await world.run("during", "echo all of it; exit 3")
        await world.until("during", "failed")
        wrong.signal(signal.SIGKILL)
    before, during = await world.until("before", "completed"), await world.until("during", "failed")
    assert (before["output"], during["output"], during["exit_code"]) == ("all of it\n", "all of it\n", 3)
    for event in await world.published():
        assert abs(event["timestamp"] - time.time()) < 60, "the cluster's time"
    assert cancelled["time"] <= during["time"]
    published = await world.published()
    async with world.controller():  # whose clock is right
        await world.run("after")
        await world.until("after", "completed")
    assert (await world.published())[: len(published)] == published
    assert await world.statuses("open") == ["running"]
