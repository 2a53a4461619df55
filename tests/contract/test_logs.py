"""Logs: exact bytes, parts of them, and what is said when there are none."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from devcluster import DevCluster
from tests.api import Api, Obj, client, container, is_over, is_running, make_job

# Not UTF-8, not one line, not ended by a newline, and JSON that a helpful client would mangle.
PRINT = r"""printf 'a\nb\n{"a": 1}\n\377\376\nlast'"""
EXACT = b'a\nb\n{"a": 1}\n\xff\xfe\nlast'


async def log(api: Api, pod: str, **query: Any) -> tuple[int, bytes]:
    status, body, headers = await api.raw("GET", f"{api.pods}/{pod}/log", params=query)
    if status == 200:
        assert headers["Content-Type"].startswith("text/plain")
    return status, body


async def refused(api: Api, pod: str, **query: Any) -> tuple[int, str]:
    status, published = await api.call("GET", f"{api.pods}/{pod}/log", params=query)
    return status, published["message"]


def waits(reason: str) -> Any:
    """Whether the first container waits for that reason."""

    def check(pod: Obj) -> bool:
        statuses = pod["status"].get("containerStatuses") or [{"state": {}}]
        return reason in str(statuses[0]["state"].get("waiting", {}).get("reason"))

    return check


async def test_a_log_is_the_exact_bytes_and_parts_of_them(api: Api) -> None:
    await api.create(make_job("a", PRINT))
    pod = (await api.pod_of("a", is_over))["metadata"]["name"]
    expected: list[tuple[dict[str, str], bytes]] = [
        ({}, EXACT),
        ({"container": "main"}, EXACT),
        ({"follow": "true"}, EXACT),
        ({"tailLines": "0"}, b""),
        ({"tailLines": "1"}, b"last"),
        ({"tailLines": "2"}, b"\xff\xfe\nlast"),
        ({"tailLines": "99"}, EXACT),
        ({"limitBytes": "3"}, b"a\nb"),
        ({"limitBytes": "10000"}, EXACT),
        ({"tailLines": "3", "limitBytes": "4"}, b'{"a"'),
        ({"sinceSeconds": "3600", "tailLines": "1"}, b"last"),
    ]
    for query, part in expected:
        assert await log(api, pod, **query) == (200, part), query
    status, stamped = await log(api, pod, timestamps="true")
    lines = stamped.split(b"\n")
    assert status == 200
    assert [line.split(b" ", 1)[1] for line in lines] == EXACT.split(b"\n")
    assert all(line.split(b" ", 1)[0].endswith(b"Z") for line in lines)


LONG = "x=$(head -c 20000 /dev/zero | tr '\\0' x); echo a; sleep 2.1; echo $x; sleep 2.1; printf end; sleep 1"
PART = 16 * 1024


async def test_with_times_each_line_has_one_and_the_last_parts_of_a_long_line_have_their_own(api: Api) -> None:
    await api.create(make_job("a", LONG))
    pod = (await api.pod_of("a", is_over))["metadata"]["name"]
    status, stamped = await log(api, pod, timestamps="true")
    lines = stamped.split(b"\n")
    assert status == 200
    assert [line.split(b" ", 1)[1] for line in lines] == [b"a", b"x" * 20_000, b"end"]
    times = [line.split(b" ", 1)[0].decode() for line in lines]
    assert len(set(map(len, times))) == 1, "nanoseconds, all nine digits"
    assert (await log(api, pod, timestamps="true", tailLines="1"))[1] == lines[2]
    _, parts = await log(api, pod, timestamps="true", tailLines="2")
    first, last = parts.split(b"\n")
    assert first.split(b" ", 1)[1] == b"x" * (20_000 - PART)
    assert last == lines[2]
    for number, time in enumerate(times):
        whole_second = f"{time[:19]}Z"
        _, rest = await log(api, pod, timestamps="true", sinceTime=whole_second)
        assert rest == b"\n".join(lines[number:])


async def test_options_that_make_no_sense_are_refused(api: Api) -> None:
    await api.create(make_job("a", "echo x"))
    pod = (await api.pod_of("a", is_over))["metadata"]["name"]
    wrong = f'PodLogOptions "{pod}" is invalid: '
    expected = {
        ("tailLines", "-1"): (422, f"{wrong}tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes", "0"): (422, f"{wrong}limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds", "0"): (422, f"{wrong}sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("tailLines", "x"): (400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("container", "nope"): (400, f"container nope is not valid for pod {pod}"),
        ("previous", "true"): (400, f'previous terminated container "main" in pod "{pod}" not found'),
    }
    for (name, value), answer in expected.items():
        assert await refused(api, pod, **{name: value}) == answer


async def test_of_several_containers_one_must_be_named(api: Api) -> None:
    pair = [container("a", "echo from a"), container("b", "echo from b")]
    await api.create(make_job("two", pod={"containers": pair}))
    pod = (await api.pod_of("two", is_over))["metadata"]["name"]
    message = f"a container name must be specified for pod {pod}, choose one of: [a b]"
    assert await refused(api, pod) == (400, message)
    assert await log(api, pod, container="b") == (200, b"from b\n")


async def test_a_container_that_waits_has_no_log(api: Api) -> None:
    await api.create(make_job("a", pod={"containers": [container("main", "true", image="does-not-exist:1")]}))
    pod = (await api.pod_of("a", waits("Image")))["metadata"]["name"]
    status, message = await refused(api, pod)
    assert status == 400
    assert message.startswith(f'container "main" in pod "{pod}" is waiting to start: ')
    assert "image" in message
    assert (await refused(api, pod, follow="true"))[0] == 400


async def test_an_init_container_is_read_while_the_main_one_waits(api: Api) -> None:
    first = container("first", "echo from first; sleep 4")
    await api.create(make_job("a", "echo main", pod={"initContainers": [first]}))

    def first_runs(pod: Obj) -> bool:
        return any("running" in s["state"] for s in pod["status"].get("initContainerStatuses") or [])

    pod = (await api.pod_of("a", first_runs))["metadata"]["name"]
    assert await refused(api, pod, container="main") == (
        400,
        f'container "main" in pod "{pod}" is waiting to start: PodInitializing',
    )
    async with asyncio.timeout(60):
        while await log(api, pod, container="first") != (200, b"from first\n"):
            await asyncio.sleep(0.05)


async def test_a_pod_without_a_node_has_no_content(api: Api) -> None:
    await api.create(make_job("a", pod={"nodeSelector": {"no-such": "node"}}))

    def unschedulable(pod: Obj) -> bool:
        return any(c.get("reason") == "Unschedulable" for c in pod["status"].get("conditions") or [])

    pod = (await api.pod_of("a", unschedulable))["metadata"]["name"]
    status, body, _ = await api.raw("GET", f"{api.pods}/{pod}/log")
    assert (status, body) == (204, b"")


async def test_a_pod_that_is_gone_has_no_log(api: Api) -> None:
    await api.create(make_job("a", "echo x"))
    pod = (await api.pod_of("a", is_over))["metadata"]["name"]
    async with api.recording(api.pods) as pods:
        await api.call("DELETE", f"{api.jobs}/a", params={"propagationPolicy": "Background"})
        await pods.until(lambda event: event["type"] == "DELETED")
    assert await refused(api, pod) == (404, f'pods "{pod}" not found')


async def test_following_a_log_ends_with_its_container(api: Api) -> None:
    await api.create(make_job("a", "echo one; sleep 2; echo two"))
    pod = (await api.pod_of("a", is_running))["metadata"]["name"]
    async with api.session.get(f"{api.url}{api.pods}/{pod}/log", params={"follow": "true"}) as response:
        assert response.status == 200
        parts = [chunk async for chunk in response.content.iter_any()]
    assert b"".join(parts) == b"one\ntwo\n"
    assert len(parts) > 1, "what is there comes at once, the rest when it is written"


async def test_the_log_before_a_restart_is_the_previous_one(api: Api) -> None:
    command = "if [ -e /tmp/again ]; then echo second; sleep 30; fi; touch /tmp/again; echo first; exit 1"
    # On a real node /tmp is the container's own and each start finds it empty; a shared volume remembers.
    if api.devcluster:
        command = command.replace("/tmp/again", "$HOME/again")
        more: Obj = {}
    else:
        command = command.replace("/tmp/again", "/shared/again")
        more = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    pod_spec = {
        "restartPolicy": "OnFailure",
        "containers": [container("main", command, **more)],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    }
    await api.create(make_job("a", pod=pod_spec))

    def restarted(pod: Obj) -> bool:
        return is_running(pod) and pod["status"]["containerStatuses"][0]["restartCount"] == 1

    seen = await api.pod_of("a", restarted)
    pod = seen["metadata"]["name"]
    assert seen["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert await log(api, pod, previous="true") == (200, b"first\n")
    async with asyncio.timeout(60):
        while await log(api, pod) != (200, b"second\n"):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("lines", [1, 7, 20_000])
async def test_tails_of_a_long_log(dev: Api, lines: int) -> None:
    await dev.create(make_job("a", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo line $i of a log; done"))
    await dev.ended("a")
    pod = (await dev.get(dev.pods))["items"][0]["metadata"]["name"]
    _, whole = await log(dev, pod)
    assert whole.count(b"\n") == 30_000
    _, tail = await log(dev, pod, tailLines=str(lines))
    assert tail == b"".join(whole.splitlines(keepends=True)[-lines:])


async def test_two_follow_one_log(dev: Api) -> None:
    await dev.create(make_job("a", "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done"))
    pod = (await dev.pod_of("a", is_running))["metadata"]["name"]
    reads = [log(dev, pod, follow="true") for _ in range(2)]
    with contextlib.suppress(asyncio.CancelledError):
        assert await asyncio.gather(*reads) == [(200, b"1\n2\n3\n4\n5\n")] * 2


async def test_a_log_that_has_grown_too_long_loses_what_it_had_but_not_for_those_who_follow() -> None:
    """10 MiB and 10 s on a real node, where tests/fates sees it."""
    rotation: Any = {"log_rotate_bytes": 1000, "log_rotate_seconds": 0.2}
    async with DevCluster(**rotation) as cluster, client(cluster.url, None, {}) as api:
        await api.create(
            make_job("a", "for i in 1 2 3 4 5 6 7 8 9; do head -c 600 /dev/zero; echo $i; sleep 0.1; done")
        )
        pod = (await api.pod_of("a", is_running))["metadata"]["name"]
        followed = (await log(api, pod, follow="true"))[1]
        kept = (await log(api, pod))[1]
    assert len(followed) == 9 * 602
    assert len(kept) < len(followed)
    assert followed.endswith(kept)
