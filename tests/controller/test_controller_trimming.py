"""The controller keeps the stream as short as its settings say, and says which consumer group it does that without."""

import time

import pytest

from controller import upkeep
from tests.conftest import eventually
from tests.controller.world import World
from tests.lines import capture_logs


async def test_the_stream_is_trimmed_and_a_dead_group_is_logged_once_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "TRIM_SECONDS", 0.02)
    events, long_ago = f"{{{world.prefix}}}:events", int((time.time() - 7200) * 1000)
    pipeline = world.redis.pipeline()
    for number in range(500):
        pipeline.xadd(events, {"event": "{}"}, id=f"{long_ago}-{number + 1}")
    pipeline.xadd(events, {"event": "{}"})  # which the group stays behind on
    await pipeline.execute()
    await world.redis.xgroup_create(events, "left", id="0")
    with capture_logs() as logs:
        async with world.controller(stream_max_seconds=3600) as replica:
            await eventually(lambda: _is_trimmed(world, events))

            async def are_dead(count: int) -> bool:
                return await replica.metric("jobcast_dead_groups") == count

            await eventually(lambda: are_dead(1))
            await world.redis.xgroup_destroy(events, "left")
            await eventually(lambda: are_dead(0))
    await world.redis.xtrim(events, maxlen=0)
    assert [line["level"] for line in logs if line.get("group") == "left"] == ["warning", "info"]


async def test_a_stream_of_another_type_is_logged_once_and_costs_no_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "TRIM_SECONDS", 0.01)
    await world.redis.set(f"{{{world.prefix}}}:replays", "not a stream")
    with capture_logs() as logs:
        async with world.controller() as replica:
            await world.run("published")
            await world.until("published", "completed")
            await world.redis.config_resetstat()
            await eventually(lambda: _is_trimmed_again_and_again(world))
            assert await replica.metric("jobcast_task_restarts_total", task="trim") == 0
            assert (await replica.get("/livez"))[0] == 200
    assert len([line for line in logs if line["event"] == "cannot trim stream"]) == 1


async def _is_trimmed_again_and_again(world: World) -> bool:
    stats = await world.redis.info("commandstats")
    return bool(stats.get("cmdstat_eval", {}).get("calls", 0) > 50)


async def _is_trimmed(world: World, events: str) -> bool:
    return await world.redis.xlen(events) == 1
