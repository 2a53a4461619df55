"""Pods that end for no fault of their own: evicted, and gone with their node."""

from __future__ import annotations

import time

import pytest

from tests.api import Api, Obj, is_running, make_job, on_ghost_node, running_by_hand


def disruption(pod: Obj) -> tuple[str, str]:
    found = next(c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert found["status"] == "True"
    return found["reason"], found["message"]


async def test_an_eviction_marks_the_pod_and_deletes_it_as_usual(api: Api) -> None:
    async with api.recording(api.pods) as pods:
        await api.create(make_job("a", "trap 'exit 5' TERM; sleep 100 & wait", backoffLimit=0))
        name = (await api.pod_of("a", is_running))["metadata"]["name"]
        await api.evict(name)
        gone = await pods.until(lambda event: event["type"] == "DELETED")
    marked = next(e["object"] for e in pods.of(name) if "DisruptionTarget" in str(e["object"]["status"]))
    assert disruption(marked) == ("EvictionByEvictionAPI", "Eviction API: evicting")
    assert "deletionTimestamp" not in marked["metadata"], "first it is marked, then it goes"
    assert disruption(gone["object"]) == disruption(marked)
    assert gone["object"]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    job = await api.ended("a")
    assert job["status"]["failed"] == 1


async def test_after_an_eviction_the_next_attempt_waits(api: Api) -> None:
    async with api.recording(api.pods) as pods:
        await api.create(make_job("a", "trap 'exit 5' TERM; sleep 100 & wait", backoffLimit=6))
        first = (await api.pod_of("a", is_running))["metadata"]["name"]
        asked = time.monotonic()
        await api.evict(first)
        await pods.until(lambda e: e["type"] == "ADDED" and e["object"]["metadata"]["name"] != first)
    assert time.monotonic() - asked >= (0.05 if api.devcluster else 9)


async def test_an_eviction_of_nothing(api: Api) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "nobody"}}
    status, published = await api.call("POST", f"{api.pods}/nobody/eviction", json=eviction)
    assert (status, published["message"]) == (404, 'pods "nobody" not found')


@pytest.mark.timeout(180)
async def test_a_pod_goes_with_its_node_and_its_containers_never_end(api: Api) -> None:
    async with api.recording(api.pods) as pods, on_ghost_node(api) as node:
        await api.create(make_job("a", pod={"nodeName": node.name}, backoffLimit=0))
        pod = (await api.pod_of("a"))["metadata"]["name"]
        await api.patch(f"{api.pods}/{pod}/status", running_by_hand("main"))
        published = [await api.call("GET", f"{api.pods}/{pod}/log")]
        await node.delete()
        published.append(await api.call("GET", f"{api.pods}/{pod}/log"))
        gone = await pods.until(lambda event: event["type"] == "DELETED", 120)
    assert [(status, answer["message"]) for status, answer in published] == [
        (500, "no preferred addresses found; known addresses: []"),
        (404, f'pods "{node.name}" not found'),
    ]
    failed = next(e["object"] for e in pods.of(pod) if e["object"]["status"]["phase"] == "Failed")
    assert "deletionTimestamp" not in failed["metadata"]
    for seen in (failed, gone["object"]):
        assert disruption(seen) == ("DeletionByPodGC", "PodGC: node no longer exists")
        assert "running" in seen["status"]["containerStatuses"][0]["state"]
        assert "reason" not in seen["status"]
    job = await api.ended("a")
    assert job["status"]["failed"] == 1
