"""The component `redis`, as the overlay `demo` has it: what it acknowledged is there after it was restarted."""

from pathlib import Path
from typing import Any

import redis.asyncio

from tests.api import Api, evaluation
from tests.conftest import eventually
from tests.e2e.installed import Installed, installed
from tests.parts import Told


async def test_what_was_published_outlives_a_restart_of_redis(cluster: Api, tmp_path: Path) -> None:
    async with installed(cluster, tmp_path) as jobcast:
        async with jobcast.redis("subscriber") as url, Told(url) as published:
            await cluster.create(evaluation("before", "echo before"))
            await published.end_of("before")
            before = await entries(url)

        await jobcast.kubectl("exec", "jobcast-redis-0", "--", "sh", "-c", "kill 1")
        await eventually(lambda: was_restarted(jobcast), 60, 0.2)
        await jobcast.is_rolled_out()

        async with jobcast.redis("subscriber") as url, Told(url) as published:
            assert await entries(url) == before
            await cluster.create(evaluation("after", "echo after"))
            await published.end_of("after")
            assert (await entries(url))[: len(before)] == before


async def entries(url: str) -> list[Any]:
    """With the ids that Redis gave them: what it forgets is published again, and only those differ then."""
    async with redis.asyncio.Redis.from_url(url) as client:
        return list(await client.xrange("{evaluation}:events"))


async def was_restarted(jobcast: Installed) -> bool:
    pod = await jobcast.api.get(f"{jobcast.api.pods}/jobcast-redis-0")
    (status,) = pod["status"]["containerStatuses"]
    return bool(status["restartCount"] == 1 and status["ready"])
