"""The controller keeps the stream as short as its settings say, and says which consumer group it does that without."""

import time

import pytest
from structlog.testing import capture_logs

from controller import manager
from tests.conftest import eventually
from tests.controller.world import World


async def test_the_stream_is_trimmed_and_a_dead_group_is_told_once_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "TRIM_SECONDS", 0.02)
    events, long_ago = f"{{{world.prefix}}}:events", int((time.time() - 7200) * 1000)
    pipeline = world.redis.pipeline()
    for number in range(500):
        pipeline.xadd(events, {"event": "{}"}, id=f"{long_ago}-{number + 1}")
    await pipeline.execute()
    await world.redis.xgroup_create(events, "left", id="0")
    with capture_logs() as logs:
        async with world.controller(stream_max_seconds=3600) as replica:
            await eventually(lambda: _is_empty(world, events))
            assert await replica.metric("jobcast_dead_groups") == 1
            await world.redis.xgroup_destroy(events, "left")

            async def nobody() -> bool:
                return await replica.metric("jobcast_dead_groups") == 0

            await eventually(nobody)
    assert [line["log_level"] for line in logs if line.get("group") == "left"] == ["warning", "info"]


async def _is_empty(world: World, events: str) -> bool:
    return await world.redis.xlen(events) == 0
