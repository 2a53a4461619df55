"""A raw client of an API server, devcluster or real, for the tests: JSON in, status and JSON out.

Nothing of what is tested is used to set the stage.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from devcluster import DevCluster

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"
IMAGE = os.environ.get("E2E_IMAGE", "busybox")
"""Needs sh and the usual small tools. Never pulled where it is there."""


class Recording:
    """What a watch said, from the moment it was opened."""

    def __init__(self) -> None:
        self.events: list[Obj] = []
        self._grown = asyncio.Condition()

    async def feed(self, lines: AsyncIterator[Obj]) -> None:
        async for event in lines:
            async with self._grown:
                self.events.append(event)
                self._grown.notify_all()

    async def until(self, check: Callable[[Obj], bool], seconds: float = 60) -> Obj:
        """The first event that fulfils `check`, past or to come."""
        async with asyncio.timeout(seconds), self._grown:
            await self._grown.wait_for(lambda: any(check(event) for event in self.events))
        return next(event for event in self.events if check(event))

    def of(self, name: str) -> list[Obj]:
        return [event for event in self.events if event["object"]["metadata"].get("name") == name]


class Api:
    """A raw client of one namespace: JSON in, status and JSON out, nothing retried, nothing hidden."""

    def __init__(self, url: str, session: aiohttp.ClientSession, namespace: str, devcluster: DevCluster | None) -> None:
        self.url = url
        self.session = session
        self.namespace = namespace
        self.devcluster = devcluster

    @property
    def jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    async def raw(self, method: str, path: str, **options: Any) -> tuple[int, bytes, Any]:
        async with self.session.request(method, self.url + path, **options) as response:
            return response.status, await response.read(), response.headers

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Obj]:
        status, body, _ = await self.raw(method, path, **options)
        return status, json.loads(body)

    async def get(self, path: str, **query: str) -> Obj:
        status, obj = await self.call("GET", path, params=query)
        assert status == 200, obj
        return obj

    async def create(self, obj: Obj) -> Obj:
        path = {"Job": self.jobs, "Pod": self.pods}[obj["kind"]]
        status, created = await self.call("POST", path, json=obj)
        assert status == 201, created
        return created

    async def patch(self, path: str, change: Obj) -> Obj:
        status, obj = await self.call("PATCH", path, json=change, headers={"Content-Type": MERGE})
        assert status == 200, obj
        return obj

    async def delete(self, path: str, policy: str = "Background") -> Obj:
        status, published = await self.call("DELETE", path, json={"propagationPolicy": policy})
        assert status < 300, published
        return published

    async def evict(self, pod: str) -> None:
        """As a drain does."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        status, published = await self.call("POST", f"{self.pods}/{pod}/eviction", json=eviction)
        assert status == 201, published

    async def watch(self, path: str, **query: str) -> AsyncIterator[Obj]:
        """The events of one watch, until the server ends it."""
        query = {"watch": "1", "timeoutSeconds": "120", **query}
        async with self.session.get(self.url + path, params=query) as response:
            assert response.status == 200, await response.text()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    @contextlib.asynccontextmanager
    async def recording(self, path: str, **query: str) -> AsyncIterator[Recording]:
        """Records what happens to a collection from now on."""
        version = (await self.get(path, limit="1"))["metadata"]["resourceVersion"]
        recording = Recording()
        async with contextlib.aclosing(self.watch(path, **{"resourceVersion": version, **query})) as lines:
            feeding = asyncio.create_task(recording.feed(lines))
            try:
                yield recording
            finally:
                feeding.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await feeding

    async def pod_of(self, job: str, check: Callable[[Obj], bool] = lambda pod: True) -> Obj:
        """The Pod of a Job, once it is there and fulfils `check`."""
        async with contextlib.aclosing(self.watch(self.pods, labelSelector=f"job-name={job}")) as events:
            async with asyncio.timeout(60):
                async for event in events:
                    if event["type"] in ("ADDED", "MODIFIED") and check(event["object"]):
                        return event["object"]
        raise AssertionError(f"no such pod of {job}")

    async def job_of(self, name: str, check: Callable[[Obj], bool] = lambda job: True) -> Obj:
        """The Job, once it fulfils `check`."""
        async with contextlib.aclosing(self.watch(self.jobs, fieldSelector=f"metadata.name={name}")) as events:
            async with asyncio.timeout(90):
                async for event in events:
                    if event["type"] in ("ADDED", "MODIFIED") and check(event["object"]):
                        return event["object"]
        raise AssertionError(f"no such job {name}")

    async def ended(self, job: str) -> Obj:
        """The Job, once it is Complete or Failed."""
        return await self.job_of(job, is_finished)

    async def gone(self, path: str, seconds: float = 60) -> None:
        """Until there is nothing at this path."""
        async with asyncio.timeout(seconds):
            while (await self.raw("GET", path))[0] != 404:
                await asyncio.sleep(0.05)

    async def can_run_pods(self) -> None:
        """Until a real server has given the namespace the account without which it refuses Pods."""
        async with asyncio.timeout(60):
            while (await self.raw("GET", f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default"))[0] != 200:
                await asyncio.sleep(0.05)


def condition(obj: Obj, type_: str) -> Obj | None:
    """The condition, when it is True."""
    published = obj.get("status", {}).get("conditions") or []
    return next((c for c in published if c["type"] == type_ and c["status"] == "True"), None)


def is_finished(job: Obj) -> bool:
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def container(name: str, script: str, **more: Any) -> Obj:
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **more,
    }


def make_job(name: str, command: str = "true", *, pod: Obj | None = None, meta: Obj | None = None, **spec: Any) -> Obj:
    """A Job of one container; keyword arguments go into its spec."""
    pod_spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [container("main", command)],
        **(pod or {}),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **(meta or {})},
        "spec": {**spec, "template": {"spec": pod_spec}},
    }


def evaluation(name: str, script: str = "true", **spec: Any) -> Obj:
    """A Job that is watched, published under its name, and not tried again unless its spec says so."""
    return make_job(
        name, script, meta={"labels": {"app": "evaluation", "eval-id": name}}, **{"backoffLimit": 0, **spec}
    )


def is_running(pod: Obj) -> bool:
    return any("running" in status["state"] for status in pod["status"].get("containerStatuses") or [])


def is_over(pod: Obj) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def running_by_hand(name: str) -> Obj:
    """The status of a Pod that nobody runs, as if its one container did."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    published = {"name": name, "ready": True, "restartCount": 0, "image": IMAGE, "imageID": "", "started": True}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
    return {
        "status": {
            "phase": "Running",
            "startTime": now,
            "conditions": [ready],
            "containerStatuses": [{**published, "state": {"running": {"startedAt": now}}}],
        }
    }


class Ghost:
    """A node that there is not: Pods that name it are run by nobody."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.name = f"ghost-{uuid.uuid4().hex[:8]}"

    async def create(self) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}}
        status, published = await self._api.call("POST", "/api/v1/nodes", json=node)
        assert status == 201, published

    async def delete(self) -> None:
        await self._api.raw("DELETE", f"/api/v1/nodes/{self.name}")


@contextlib.asynccontextmanager
async def on_ghost_node(api: Api) -> AsyncIterator[Ghost]:
    ghost = Ghost(api)
    await ghost.create()
    try:
        yield ghost
    finally:
        await ghost.delete()


def connection(kubeconfig: Path | None = None) -> tuple[str, ssl.SSLContext | None, dict[str, str]]:
    """Address, TLS and headers of the current context of this file, else of KUBECONFIG."""
    path = kubeconfig or Path(os.environ.get("KUBECONFIG", "~/.kube/config").split(":")[0]).expanduser()
    if not path.exists():
        pytest.fail(f"no cluster to test against: {path} is not there")
    config = yaml.safe_load(path.read_text())

    def named(kind: str, name: str) -> Obj:
        return next(entry for entry in config[f"{kind}s"] if entry["name"] == name)[kind]

    context = named("context", config["current-context"])
    cluster, user = named("cluster", context["cluster"]), named("user", context["user"])
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    if not cluster["server"].startswith("https"):
        return cluster["server"], None, headers
    with tempfile.TemporaryDirectory() as folder:

        def file(entry: Obj, key: str) -> str | None:
            if f"{key}-data" not in entry:
                return entry.get(key)
            target = Path(folder) / key
            target.write_bytes(base64.b64decode(entry[f"{key}-data"]))
            return str(target)

        tls = ssl.create_default_context(cafile=file(cluster, "certificate-authority"))
        if certificate := file(user, "client-certificate"):
            tls.load_cert_chain(certificate, file(user, "client-key"))
    return cluster["server"], tls, headers


@contextlib.asynccontextmanager
async def client(
    url: str, tls: ssl.SSLContext | None, headers: dict[str, str], devcluster: DevCluster | None = None
) -> AsyncIterator[Api]:
    """With a fresh namespace, which goes at the end."""
    sockets: list[socket.socket] = []

    def make_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        sockets.append(socket.socket(*address[:3]))
        return sockets[-1]

    connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True, socket_factory=make_socket)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=130)
    namespace = f"jobcast-test-{uuid.uuid4().hex[:10]}"
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        api = Api(url, session, namespace, devcluster)
        status, published = await api.call("POST", "/api/v1/namespaces", json={"metadata": {"name": namespace}})
        assert status == 201, published
        try:
            yield api
        finally:
            await api.raw("DELETE", f"/api/v1/namespaces/{namespace}")
    # aiohttp does not wait for TLS' goodbyes of the watches that were left, and a loop that is closed before them warns of it.
    async with asyncio.timeout(60):
        while any(one.fileno() != -1 for one in sockets):
            await asyncio.sleep(0.01)
