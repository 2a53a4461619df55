"""What somebody set up wrongly is said by /readyz, in one line of the log, and by doctor."""

import json

import pytest

from jobcast.cli.commands.doctor import of_cluster, of_redis
from jobcast.cli.redis import Redis
from jobcast.service.settings import CoreSettings
from tests.conftest import eventually
from tests.controller.world import World
from tests.lines import capture_logs


async def test_a_wrong_password(own_world: World) -> None:
    await own_world.redis.acl_setuser("teller", enabled=True, passwords=["+right"], keys=["*"], categories=["+@all"])
    url = own_world.redis_url.replace("redis://", "redis://teller:hunter2@")
    said = "the user name or password in REDIS_URL is wrong"
    with capture_logs() as logs:
        async with own_world.controller(ready=False, redis_url=url) as replica:

            async def is_said() -> bool:
                return said in await replica.why_not_ready()

            await eventually(is_said)
    assert [said in line["why"] for line in logs if line["event"] == "redis unavailable, retrying"] == [True]
    (finding,) = await of_redis(Redis(url, own_world.prefix))
    assert (finding.verdict, said in finding.text) == ("broken", True)
    assert "hunter2" not in json.dumps([logs, finding], default=str)


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_no_permissions(world: World, verb: str) -> None:
    world.fault("status", code=403, verb=verb, resource="jobs", times=None)
    with capture_logs() as logs:
        async with world.controller(ready=False) as replica:

            async def is_said() -> bool:
                why = await replica.why_not_ready()
                return "may not list and watch jobs" in why and world.namespace in why

            await eventually(is_said)
            found = await of_cluster(CoreSettings(namespaces=(world.namespace,)), world.namespace)
    lines = [line for line in logs if "may not list and watch jobs" in str(line.get("why"))]
    assert len(lines) == 1, lines
    published = [finding.text for finding in found if finding.verdict == "broken"]
    assert f"this account may not {verb} jobs in {world.namespace}" in published
