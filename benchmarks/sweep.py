"""What the sweep asks of the API server, against what it replaces: a task for each evaluation that polls it every 10 s.

With KUBECONFIG set it is that cluster, in a namespace of our own; else devcluster. A proxy in between counts.
"""

import asyncio
import json
import multiprocessing
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from benchmarks.beside import beside
from benchmarks.objects import job
from benchmarks.running import memory
from benchmarks.watch import kubeconfig
from chaos.apiproxy import ApiProxy, Door
from devcluster import DevCluster
from jobcast.kube import Access
from jobcast.reconcile.sweep import sweep_once
from jobcast.service.settings import CoreSettings
from testbed.valkey import valkey

JOBS = 1_000
MANY = 10_000
ROUNDS = 3
POLL_SECONDS = 10.0
POLLS = 2
AT_ONCE = 16
"""Requests that set the stage, or poll, at the same time."""
RUNNING = {"status": {"startTime": "2026-11-21T08:10:00Z", "active": 1, "ready": 1}}


class Traffic(NamedTuple):
    calls: float
    bytes: float


class Cost(NamedTuple):
    """Of one round."""

    cpu: float
    """Seconds."""
    memory: int
    """Bytes that the process grew by at most."""


def rows() -> list[tuple[str, str, str]]:
    swept, polled, cost, where = asyncio.run(_compare())
    many = _sweep_many()
    return [
        (
            f"API calls a minute for {JOBS:,} Jobs that run: the sweep's",
            f"{swept.calls:,.0f}",
            f"1/{polled.calls / swept.calls:,.0f} of a poll of each every 10 s ({polled.calls:,.0f}), ≤ 1/100; {where}",
        ),
        (
            "bytes a minute that the API server sends for it",
            f"{swept.bytes / 1e6:.2f} MB",
            f"1/{polled.bytes / swept.bytes:,.0f} of {polled.bytes / 1e6:.1f} MB",
        ),
        (f"CPU of a round of the sweep, {JOBS:,} Jobs that run", f"{cost.cpu:.2f} s", _grown(cost)),
        (f"CPU of a round of the sweep, {MANY:,}", f"{many.cpu:.2f} s", _grown(many)),
    ]


def _grown(cost: Cost) -> str:
    return f"memory +{cost.memory / 1e6:.0f} MB at most, the round that published them all included"


async def _compare() -> tuple[Traffic, Traffic, Cost, str]:
    """A minute of the sweep, and of the polls; SWEEP_SECONDS is a minute."""
    async with _cluster() as access, ApiProxy(access, ("sweep", "poll")) as proxy, _stage(access) as stage:
        with tempfile.TemporaryDirectory() as folder, valkey() as server:
            config, door = Path(folder) / "kubeconfig", proxy.doors["sweep"]
            proxy.write_kubeconfig("sweep", stage.namespace, config)
            with _sweeper(str(config), stage.namespace, server.url) as line:
                await asyncio.to_thread(line.recv)  # it has published them all
                calls, sent = door.requests, door.bytes
                line.send("go on")
                cost = await asyncio.to_thread(line.recv)
            swept = Traffic((door.requests - calls) / ROUNDS, (door.bytes - sent) / ROUNDS)
        return swept, await _polled(stage, proxy.doors["poll"]), cost, await stage.version()


async def _polled(stage: "Stage", door: Door) -> Traffic:
    """A minute of a GET of each Job every 10 s, spread evenly."""
    url = f"http://127.0.0.1:{door.port}{stage.jobs}"
    begun = time.monotonic()

    async def poll(number: int, session: aiohttp.ClientSession) -> None:
        for turn in range(POLLS):
            due = begun + (turn + number / JOBS) * POLL_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            async with session.get(f"{url}/{stage.name(number)}") as answer:
                assert answer.status == 200
                await answer.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        await asyncio.gather(*(poll(number, session) for number in range(JOBS)))
    minute = 60.0 / (POLLS * POLL_SECONDS)
    return Traffic(door.requests * minute, door.bytes * minute)


class Stage:
    """A namespace with running Jobs that no controller manages, and no Pods."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        self.namespace = f"jobcast-bench-{uuid.uuid4().hex[:8]}"
        self._session = session
        self._host = host

    @property
    def jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @staticmethod
    def name(number: int) -> str:
        return f"evaluation-{number}"

    async def version(self) -> str:
        found = await self.send("GET", "/version")
        return f"API server {found['gitVersion']}"

    async def send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind}
        async with self._session.request(method, self._host + path, data=data, headers=headers) as answer:
            answer.raise_for_status()
            return await answer.json(content_type=None)

    async def make(self, number: int) -> None:
        made = job(number)
        spec = {key: value for key, value in made["spec"].items() if key != "selector"}
        spec["template"]["metadata"] = {}
        metadata = {key: made["metadata"][key] for key in ("name", "labels", "annotations")}
        body = {**made, "metadata": metadata, "spec": {**spec, "managedBy": "bench.example/nobody"}}
        body.pop("status")
        await self.send("POST", self.jobs, body)
        await self.send("PATCH", f"{self.jobs}/{self.name(number)}/status", RUNNING, "application/merge-patch+json")


@asynccontextmanager
async def _cluster() -> AsyncIterator[Access]:
    if os.environ.get("KUBECONFIG"):
        yield await Access.find()
        return
    async with DevCluster() as cluster:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["KUBECONFIG"] = kubeconfig(Path(folder), cluster.url)
            try:
                access = await Access.find()
            finally:
                del os.environ["KUBECONFIG"]
        yield access


@asynccontextmanager
async def _stage(access: Access) -> AsyncIterator[Stage]:
    connector = aiohttp.TCPConnector(ssl=access.ssl(), limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, headers=await access.headers()) as session:
        stage = Stage(session, access.host)
        await stage.send("POST", "/api/v1/namespaces", {"metadata": {"name": stage.namespace}})
        try:
            await asyncio.gather(*(stage.make(number) for number in range(JOBS)))
            yield stage
        finally:
            await stage.send("DELETE", f"/api/v1/namespaces/{stage.namespace}")


def _sweep_many() -> Cost:
    """An API server of ours, whose Jobs are as large as real ones."""
    with (
        tempfile.TemporaryDirectory() as folder,
        valkey() as server,
        beside(_serve, MANY) as (url, _),
        _sweeper(kubeconfig(Path(folder), url), "evaluations", server.url) as line,
    ):
        line.recv()
        line.send("go on")
        cost: Cost = line.recv()
        return cost


@contextmanager
def _sweeper(config: str, namespace: str, redis_url: str) -> Iterator[Connection]:
    """A process that sweeps once, says so, and when it is answered goes on for ROUNDS rounds and sends their Cost."""
    ours, theirs = multiprocessing.Pipe()
    settings = {"KUBECONFIG": config, "NAMESPACES": namespace, "REDIS_URL": redis_url}
    process = multiprocessing.get_context("spawn").Process(target=_sweep, args=(settings, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def _sweep(environment: dict[str, str], line: Connection) -> None:
    os.environ.update(environment)
    settings = CoreSettings()
    before = memory("self", "VmRSS")
    asyncio.run(sweep_once(settings))
    line.send("published")
    line.recv()
    began = time.process_time()
    for _ in range(ROUNDS):
        asyncio.run(sweep_once(settings))
    line.send(Cost((time.process_time() - began) / ROUNDS, memory("self", "VmHWM") - before))


def _serve(count: int, line: Connection) -> None:
    asyncio.run(_pages(count, line))


async def _pages(count: int, line: Connection) -> None:
    found = [json.dumps(job(number)).encode() for number in range(count)]

    async def answer(request: web.Request) -> web.Response:
        items = found if request.path.endswith("/jobs") else []
        first = int(request.query.get("continue", 0))
        page = items[first : first + int(request.query["limit"])]
        follows = str(first + len(page)) if first + len(page) < len(items) else ""
        head = b'{"metadata":{"resourceVersion":"1000000","continue":"%s"},"items":[' % follows.encode()
        response = web.Response(body=head + b",".join(page) + b"]}", content_type="application/json")
        response.enable_compression()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    line.send(runner.addresses[0][1])
    await asyncio.Event().wait()
