"""Controllers that come and go on a real node, under load: nothing is lost, nothing published twice, nothing late."""

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.api import Api
from tests.conftest import eventually
from tests.e2e.installed import CONTROLLER, Installed, installed
from tests.e2e.load import Load

JOBS_A_SECOND = 20.0
LONGEST_SECONDS = 2.0
"""From a fact being written to its event, beyond what the same machine takes while nothing is done to the controllers."""
CAUGHT_UP_SECONDS = 5.0
"""From the first controller that is ready to the events of what happened while there was none."""
TOO_MANY = 429
STEADY = 80
"""Facts, of which there are two a Job: two seconds of load."""


@pytest.mark.alone
async def test_nothing_is_lost_published_twice_or_late_while_controllers_come_and_go(
    cluster: Api, tmp_path: Path
) -> None:
    load = Load(cluster, JOBS_A_SECOND)
    async with installed(cluster, tmp_path) as jobcast, jobcast.redis("subscriber") as url, load.running(url):
        await load.steady(STEADY)
        marks = {"steady": time.monotonic()}

        await load.run("while-updated")
        await jobcast.kubectl("rollout", "restart", CONTROLLER)
        await jobcast.is_rolled_out()
        await load.steady(STEADY)
        marks["rolling update"] = time.monotonic()

        await load.run("while-drained")
        await drain(jobcast)
        await load.steady(STEADY)
        marks["drain"] = time.monotonic()

        for replicas in (1, 3):
            await scale(jobcast, replicas)
            await load.steady(STEADY)
        marks["scale 1, 3"] = time.monotonic()

        await load.run("while-away")
        await jobcast.kubectl("scale", CONTROLLER, "--replicas=0")
        await eventually(lambda: is_gone(jobcast), 60)
        nobody = len(load.written)
        await eventually(lambda: len(load.written) >= nobody + STEADY)
        await jobcast.kubectl("scale", CONTROLLER, "--replicas=2")
        await eventually(lambda: is_ready(jobcast), 60)
        marks["none"] = time.monotonic()
        await load.steady(STEADY)
        marks["scale 2"] = time.monotonic()

    since = 0.0
    longest = {}
    for phase, until in marks.items():
        longest[phase] = max(load.delays(since, until))
        since = until
    print(f"{len(load.written)} facts;", ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in longest.items()))
    told_twice = [event for event, count in Counter(load.ids).items() if count > 1]
    assert not told_twice
    assert {tuple(statuses) for statuses in load.events.values()} == {("running", "completed")}
    assert set(load.logs.values()) == {"complete"}
    assert load.published.keys() == load.written.keys()
    late = max(at for fact, at in load.published.items() if load.written[fact] < marks["none"]) - marks["none"]
    steady = longest["steady"]
    assert late < CAUGHT_UP_SECONDS + steady
    del longest["none"]
    assert max(longest.values()) < LONGEST_SECONDS + steady, longest


async def drain(jobcast: Installed) -> None:
    """As `kubectl drain` does: one eviction after the other, as the budget allows."""
    one, other = [pod["metadata"]["name"] for pod in await jobcast.controllers()]
    assert await evict(jobcast, one) == 201
    assert await evict(jobcast, other) == TOO_MANY, "the budget holds the second back"
    await jobcast.is_rolled_out()
    await eventually(lambda: is_evicted(jobcast, other), 60)
    await jobcast.is_rolled_out()


async def evict(jobcast: Installed, pod: str) -> int:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    status, _ = await jobcast.api.call("POST", f"{jobcast.api.pods}/{pod}/eviction", json=eviction)
    return status


async def is_evicted(jobcast: Installed, pod: str) -> bool:
    return await evict(jobcast, pod) == 201


async def scale(jobcast: Installed, replicas: int) -> None:
    await jobcast.kubectl("scale", CONTROLLER, f"--replicas={replicas}")
    await jobcast.is_rolled_out()


async def is_gone(jobcast: Installed) -> bool:
    return not (await jobcast.api.get(jobcast.api.pods, labelSelector=jobcast.pods))["items"]


async def is_ready(jobcast: Installed) -> bool:
    conditions = [found for pod in await jobcast.controllers() for found in pod["status"].get("conditions") or []]
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)
