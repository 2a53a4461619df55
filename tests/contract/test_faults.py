"""What devcluster breaks on demand: each fault, from the client's side."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
import pytest

from devcluster import Fault
from tests.api import Api, is_over, is_running, make_job

from .test_list import managed
from .test_watch import published, take


def add(api: Api, kind: Any, **fields: Any) -> Fault:
    assert api.devcluster
    return api.devcluster.faults.add(Fault(kind=kind, **fields))


@contextlib.asynccontextmanager
async def opened(api: Api, **query: str) -> Any:
    """A watch of Jobs, as the bare response."""
    async with api.session.get(api.url + api.jobs, params={"watch": "1", **query}) as response:
        assert response.status == 200
        yield response


@pytest.mark.parametrize(
    ("code", "reason"),
    [(401, "Unauthorized"), (404, "NotFound"), (410, "Expired"), (500, "InternalError"), (503, "ServiceUnavailable")],
)
async def test_a_status(dev: Api, code: int, reason: str) -> None:
    add(dev, "status", code=code, verb="list", resource="jobs")
    status, refused = await dev.call("GET", dev.jobs)
    assert (status, refused["kind"], refused["code"], refused["reason"]) == (code, "Status", code, reason)
    assert (await dev.get(dev.jobs))["items"] == [], "once, unless asked for more"


async def test_forbidden_in_the_words_of_rbac(dev: Api) -> None:
    add(dev, "status", code=403, verb="watch", resource="jobs", times=None)
    add(dev, "status", code=403, verb="log", times=None)
    _, refused = await dev.call("GET", dev.jobs, params={"watch": "1"})
    assert refused["message"] == (
        f'jobs.batch is forbidden: User "devcluster" cannot watch resource "jobs" in API group "batch" '
        f'in the namespace "{dev.namespace}"'
    )
    _, refused = await dev.call("GET", f"{dev.pods}/p/log")
    assert refused["message"] == (
        f'pods "p" is forbidden: User "devcluster" cannot get resource "pods/log" in API group "" '
        f'in the namespace "{dev.namespace}"'
    )
    _, refused = await dev.call("GET", "/apis/batch/v1/jobs", params={"watch": "true"})
    assert refused["message"].endswith("at the cluster scope")


async def test_an_access_review_knows_what_is_forbidden(dev: Api) -> None:
    add(dev, "status", code=403, verb="watch", resource="jobs", times=None)
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    for verb, allowed in (("watch", False), ("list", True)):
        asked = {"verb": verb, "group": "batch", "resource": "jobs", "namespace": dev.namespace}
        _, review = await dev.call("POST", path, json={"spec": {"resourceAttributes": asked}})
        assert review["status"]["allowed"] is allowed


async def test_too_many_requests_says_when_to_come_back(dev: Api) -> None:
    add(dev, "status", code=429, retry_after=7, times=2)
    for _ in range(2):
        status, body, headers = await dev.raw("GET", dev.jobs)
        assert (status, headers["Retry-After"]) == (429, "7")
        assert body == b"Too many requests, please try again later.\n", "plain text: no Status object"
    assert (await dev.raw("GET", dev.jobs))[0] == 200
    add(dev, "status", code=429, retry_after=3, message="slow down")
    status, refused = await dev.call("GET", dev.jobs)
    assert (refused["reason"], refused["details"]) == ("TooManyRequests", {"retryAfterSeconds": 3})


async def test_a_proxy_in_between_answers_in_its_own_way(dev: Api) -> None:
    add(dev, "status", code=502, body="<html>Bad Gateway</html>")
    assert (await dev.raw("GET", dev.jobs))[:2] == (502, b"<html>Bad Gateway</html>")


async def test_an_expired_token_is_refused_and_a_new_one_is_not(dev: Api) -> None:
    add(dev, "status", code=401, token="old", times=None)
    for token, code in (("old", 401), ("new", 200), ("old", 401)):
        assert (await dev.raw("GET", dev.jobs, headers={"Authorization": f"Bearer {token}"}))[0] == code


async def test_the_server_stops_and_works_again_with_all_it_knew(dev: Api) -> None:
    assert dev.devcluster
    await managed(dev, "a")
    version = (await dev.get(dev.jobs))["metadata"]["resourceVersion"]
    async with opened(dev, resourceVersion=version) as response:
        await dev.devcluster.go_down()
        with pytest.raises(aiohttp.ClientError):
            await response.content.readline()
            raise aiohttp.ClientPayloadError("an orderly end is as good")
    with pytest.raises(aiohttp.ClientConnectorError):
        await dev.get(dev.jobs)
    await dev.devcluster.come_up()
    await managed(dev, "b")
    assert published(await take(dev, dev.jobs, 1, resourceVersion=version)) == [("ADDED", "b")]


async def test_objects_are_driven_without_processes(dev: Api) -> None:
    assert dev.devcluster
    cluster = dev.devcluster
    job = cluster.create(make_job("a", managedBy="example.com/nobody"), dev.namespace)
    assert cluster.patch_status(job, {"active": 1, "startTime": "2026-01-01T00:00:00Z"})["status"]["active"] == 1
    pod_spec = {"nodeName": "elsewhere", "containers": [{"name": "main", "image": "x"}]}
    pod = cluster.create({"kind": "Pod", "metadata": {"name": "p"}, "spec": pod_spec}, dev.namespace)
    cluster.patch_status(pod, {"phase": "Running"})
    cluster.write_log(pod, "main", b"first\n")
    cluster.write_log(pod, "main", b"second\n")
    assert (await dev.raw("GET", f"{dev.pods}/p/log"))[1] == b"second\n"
    assert (await dev.raw("GET", f"{dev.pods}/p/log", params={"previous": "true"}))[1] == b"first\n"
    assert (await dev.get(f"{dev.pods}/p"))["status"]["phase"] == "Running"


async def test_a_fault_falls_only_on_what_it_matches(dev: Api) -> None:
    fault = add(dev, "status", verb="list", resource="jobs", namespace="elsewhere")
    await dev.get(dev.jobs)
    await dev.get(dev.pods)
    assert dev.devcluster
    assert dev.devcluster.faults.waiting() == [fault]


async def test_an_empty_answer(dev: Api) -> None:
    add(dev, "empty", verb="watch")
    add(dev, "empty", verb="list")
    assert [event async for event in dev.watch(dev.jobs)] == []
    assert (await dev.raw("GET", dev.jobs))[:2] == (200, b"")


async def test_a_watch_that_is_open_and_mute(dev: Api) -> None:
    add(dev, "stall", verb="watch", after_events=1)
    await managed(dev, "a", "b")
    async with opened(dev) as response:
        assert json.loads(await response.content.readline())["object"]["metadata"]["name"] == "a"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readline(), 0.3)


async def test_a_stall_in_the_middle_of_a_line_that_passes(dev: Api) -> None:
    add(dev, "stall", verb="watch", mid_line=True, seconds=0.3)
    await managed(dev, "a")
    async with opened(dev) as response:
        begun = await response.content.readany()
        assert begun
        assert not begun.endswith(b"\n")
        rest = await asyncio.wait_for(response.content.readline(), 5)
        assert published([json.loads(begun + rest)]) == [("ADDED", "a")]


async def test_headers_and_then_nothing(dev: Api) -> None:
    add(dev, "stall", verb="list")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await dev.get(dev.jobs)
    await dev.get(dev.jobs)


@pytest.mark.parametrize("rst", [False, True])
async def test_a_watch_cut_in_the_middle_of_a_line(dev: Api, rst: bool) -> None:
    add(dev, "cut", verb="watch", after_events=1, mid_line=True, rst=rst)
    await managed(dev, "a", "b")
    got = b""
    with pytest.raises(aiohttp.ClientError):
        async with opened(dev) as response:
            async for chunk in response.content.iter_any():
                got += chunk
    if not rst:  # a reset may overtake what was sent before it
        first, half = got.split(b"\n")
        assert json.loads(first)
        with pytest.raises(json.JSONDecodeError):
            json.loads(half)


async def test_a_list_cut_after_some_bytes(dev: Api) -> None:
    add(dev, "cut", verb="list", after_bytes=10)
    with pytest.raises(aiohttp.ClientPayloadError):
        await dev.get(dev.jobs)


async def test_a_log_cut_after_some_bytes(dev: Api) -> None:
    await dev.create(make_job("a", "echo 0123456789"))
    pod = (await dev.pod_of("a", is_over))["metadata"]["name"]
    add(dev, "cut", verb="log", after_bytes=4)
    got = b""
    with pytest.raises(aiohttp.ClientPayloadError):
        async with dev.session.get(f"{dev.url}{dev.pods}/{pod}/log") as response:
            async for chunk in response.content.iter_any():
                got += chunk
    assert got == b"0123"


async def test_a_log_that_stalls_after_some_bytes_goes_on_from_there(dev: Api) -> None:
    await dev.create(make_job("a", "echo 0123456789"))
    pod = (await dev.pod_of("a", is_over))["metadata"]["name"]
    add(dev, "stall", verb="log", after_bytes=4, seconds=0.05)
    assert (await dev.raw("GET", f"{dev.pods}/{pod}/log"))[1] == b"0123456789\n"


async def test_a_log_that_the_node_has_lost(dev: Api) -> None:
    await dev.create(make_job("a", "echo x"))
    pod = (await dev.pod_of("a", is_over))["metadata"]["name"]
    add(dev, "lost", verb="log")
    status, body, _ = await dev.raw("GET", f"{dev.pods}/{pod}/log")
    assert status == 200
    assert body.startswith(b"unable to retrieve container logs for containerd://")


async def test_an_expiry_while_a_watch_runs(dev: Api) -> None:
    assert dev.devcluster
    await managed(dev, "a")
    async with opened(dev) as response:
        await response.content.readline()
        assert dev.devcluster.faults.strike(Fault(kind="expire", verb="watch", resource="jobs")) == 1
        event = json.loads(await response.content.readline())
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert await response.content.readline() == b"", "and the stream ends"


@pytest.mark.parametrize("garbage", ["text", "half", "type", "statusless"])
async def test_a_line_that_makes_no_sense_among_those_that_do(dev: Api, garbage: Any) -> None:
    add(dev, "garbage", verb="watch", after_events=1, garbage=garbage)
    await managed(dev, "a", "b")
    async with opened(dev) as response:
        first, odd, second = [await response.content.readline() for _ in range(3)]
    assert published([json.loads(first), json.loads(second)]) == [("ADDED", "a"), ("ADDED", "b")]
    match garbage:
        case "type":
            assert json.loads(odd)["type"] == "MYSTERY"
        case "statusless":
            assert "status" not in json.loads(odd)["object"]
        case _:
            with pytest.raises(json.JSONDecodeError):
                json.loads(odd)


async def test_all_open_watches_are_cut_at_once(dev: Api) -> None:
    assert dev.devcluster
    async with contextlib.AsyncExitStack() as stack:
        responses = [await stack.enter_async_context(opened(dev)) for _ in range(3)]
        assert dev.devcluster.faults.strike(Fault(kind="cut", verb="watch")) == 3
        for response in responses:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.readline()


async def test_a_struck_watch_stalls_in_the_middle_of_a_line(dev: Api) -> None:
    assert dev.devcluster
    async with opened(dev) as response:
        assert dev.devcluster.faults.strike(Fault(kind="stall", mid_line=True)) == 1
        begun = await response.content.readany()
        assert b"\n" not in begun
        await managed(dev, "a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readany(), 0.2)


async def test_following_a_log_is_cut(dev: Api) -> None:
    assert dev.devcluster
    await dev.create(make_job("a", "echo x; sleep 30"))
    pod = (await dev.pod_of("a", is_running))["metadata"]["name"]
    async with dev.session.get(f"{dev.url}{dev.pods}/{pod}/log", params={"follow": "1"}) as response:
        assert await response.content.readline() == b"x\n"
        assert dev.devcluster.faults.strike(Fault(kind="cut", verb="log")) == 1
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.readline()


async def test_faults_are_set_from_another_process(dev: Api) -> None:
    await managed(dev, "a")
    wanted = {"kind": "status", "code": 500, "verb": "list", "times": None}
    status, made = await dev.call("POST", "/devcluster/faults", json=wanted)
    assert (status, made["kind"]) == (201, "status")
    assert (await dev.raw("GET", dev.jobs))[0] == 500
    assert len((await dev.call("GET", "/devcluster/faults"))[1]["faults"]) == 1
    await dev.call("DELETE", "/devcluster/faults")
    assert (await dev.raw("GET", dev.jobs))[0] == 200
    async with opened(dev) as response:
        await response.content.readline()
        status, struck = await dev.call("POST", "/devcluster/faults", json={"kind": "cut", "now": True})
        assert (status, struck) == (200, {"struck": 1})
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.readline()
    status, refused = await dev.call("POST", "/devcluster/faults", json={"kind": "unheard-of"})
    assert (status, refused["reason"]) == (400, "BadRequest")


async def test_compaction_from_another_process(dev: Api) -> None:
    await managed(dev, "a", "b")
    version = (await dev.get(f"{dev.jobs}/a"))["metadata"]["resourceVersion"]
    assert published(await take(dev, dev.jobs, 1, resourceVersion=version)) == [("ADDED", "b")]
    await dev.call("POST", "/devcluster/compact")
    (event,) = await take(dev, dev.jobs, 1, resourceVersion=version)
    assert event["object"]["code"] == 410
