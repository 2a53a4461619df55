"""What the API server may answer instead of what was asked: refusals, garbage, and what our own mistakes make of it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controller.store import Store
from tests.conftest import eventually
from tests.controller.world import World, make_job


@pytest.mark.must_survive(6)
@pytest.mark.parametrize(
    ("resource", "verb", "rule"),
    [
        ("jobs", "list", 'apiGroups ["batch"], resources ["jobs"], verbs ["list", "watch"]'),
        ("jobs", "watch", 'apiGroups ["batch"], resources ["jobs"], verbs ["list", "watch"]'),
        ("pods", "list", 'apiGroups [""], resources ["pods"], verbs ["list", "watch"]'),
    ],
)
async def test_a_missing_permission_is_named_and_all_is_well_once_it_is_given(
    world: World, resource: str, verb: str, rule: str
) -> None:
    world.fault("status", code=403, verb=verb, resource=resource, times=None)
    await world.run("waiting", "echo waited")
    async with world.controller(ready=False) as replica:

        async def refused() -> str:
            why = await replica.why_not_ready()
            return why if "may not" in why else ""

        why = await eventually(refused)
        assert f"{resource} in {world.namespace}" in why
        assert f"in namespace {world.namespace}" in why
        assert f'cannot {verb} resource "{resource}"' in why
        assert rule in why
        assert "Role" in why
        assert (await replica.get("/livez"))[0] == 200, "a restart would not give it"
        world.cluster.faults.clear()
        event = await world.until("waiting", "completed")
        await eventually(replica.is_ready)
    assert event["output"] == "waited\n"


@pytest.mark.must_survive(6)
async def test_a_missing_permission_for_all_namespaces_asks_for_a_cluster_role(world: World) -> None:
    world.fault("status", code=403, verb="list", resource="jobs", times=None)
    async with world.controller(ready=False, namespaces=("*",)) as replica:

        async def refused() -> bool:
            why = await replica.why_not_ready()
            return "in all namespaces" in why and "ClusterRole" in why

        await eventually(refused)


@pytest.mark.must_survive(6)
async def test_a_namespace_that_is_refused_affects_no_other(world: World) -> None:
    other = f"{world.namespace}-other"
    await world.create_namespace(other)
    world.fault("status", code=403, namespace=other, times=None)
    namespaces = (world.namespace, other, "nowhere-at-all")
    async with world.controller(ready=False, namespaces=namespaces) as replica:
        await world.run("unharmed")
        await world.until("unharmed", "completed")
        assert other in await eventually(replica.why_not_ready)


async def test_a_namespace_that_does_not_exist_harms_no_other_and_is_watched_once_it_does(world: World) -> None:
    late = f"{world.namespace}-late"
    async with world.controller(namespaces=(late, world.namespace)):
        await world.run("present")
        await world.until("present", "completed")
        await world.create_namespace(late)
        await world.create(make_job("late"), late)
        await world.until("late", "completed")


async def test_all_namespaces_are_watched_with_one_watch_of_each_kind(world: World) -> None:
    other = f"{world.namespace}-other"
    await world.create_namespace(other)
    async with world.controller(namespaces=("*",)):
        await world.run("here")
        await world.create(make_job("there"), other)
        await world.until("here", "completed")
        await world.until("there", "completed")
    assert {request.path for request in world.wiretap.of("watch")} == {"/apis/batch/v1/jobs", "/api/v1/pods"}


@pytest.mark.must_survive(6)
async def test_credentials_that_expired_are_read_again(world: World) -> None:
    async with world.controller():
        await world.run("before")
        await world.until("before", "completed")
        path = Path(os.environ["KUBECONFIG"])
        config = json.loads(path.read_text())
        config["users"][0]["user"]["token"] = "renewed"
        path.write_text(json.dumps(config))
        world.fault("status", code=401, token="devcluster", times=None)
        world.strike("cut", verb="watch")
        await world.run("after", "echo after")
        event = await world.until("after", "completed")
        assert (event["output"], event["log"]["reason"]) == ("after\n", None)
    assert world.wiretap.requests[-1].authorization == "Bearer renewed"


@pytest.mark.must_survive(8)
@pytest.mark.parametrize(
    ("garbage", "reason"),
    [("text", "not_json"), ("half", "not_json"), ("type", "unknown_type"), ("statusless", None)],
)
async def test_a_line_that_makes_no_sense_is_counted_and_the_next_ones_are_read(
    world: World, garbage: Any, reason: str | None
) -> None:
    async with world.controller() as replica:
        before = await replica.metric("jobcast_watch_skipped_total", reason=reason) if reason else 0
        assert world.strike("garbage", verb="watch", resource="jobs", garbage=garbage) == 1
        await world.run("next")
        await world.until("next", "completed")
        if reason:
            assert await replica.metric("jobcast_watch_skipped_total", reason=reason) == before + 1
        assert (await replica.get("/livez"))[0] == 200
    assert await world.statuses("next") == ["running", "completed"]


@pytest.mark.must_survive(8)
async def test_a_line_that_is_cut_is_counted_and_read_whole_the_next_time(world: World) -> None:
    async with world.controller() as replica:
        name, labels = "jobcast_watch_restarts_total", {"reason": "unreachable"}
        before = await replica.metric(name, **labels)
        world.strike("cut", verb="watch", resource="jobs", mid_line=True)
        world.fault("cut", verb="watch", resource="jobs", after_events=1, mid_line=True)
        await world.run("cut")
        await world.until("cut", "completed")
        assert await replica.metric(name, **labels) >= before + 2


@pytest.mark.must_survive(4)
@pytest.mark.parametrize("method", ["put_job", "put_pod"])
async def test_a_mistake_of_our_own_costs_a_restart_of_the_task_and_no_event(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    failures: list[str] = []
    put = getattr(Store, method)

    def put_or_fail(store: Store, obj: Any) -> Any:
        ends = obj.end is not None if method == "put_job" else obj.phase == "Succeeded"
        if ends and not failures:
            failures.append(obj.name)
            raise RuntimeError("a mistake of our own")
        return put(store, obj)

    async with world.controller() as replica:
        name, task = "jobcast_task_restarts_total", "jobs" if method == "put_job" else "pods"
        before = await replica.metric(name, task=task)
        monkeypatch.setattr(Store, method, put_or_fail)
        await world.run("struck", "echo published", ttlSecondsAfterFinished=60)
        event = await world.until("struck", "completed")
        assert failures
        assert await replica.metric(name, task=task) == before + 1
        await eventually(replica.is_ready)
    assert event["output"] == "published\n"
