"""How soon the first message comes after a fault is over: the API server's, Redis', and a death of the controller's own.

TRIES=20 for steadier figures.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import redis

from benchmarks.replay import NAMESPACE
from benchmarks.running import Running
from devcluster import DevCluster
from testbed.valkey import ValkeyServer, valkey

TRIES = 5
AWAY_SECONDS = 3.0
"""Long enough for every backoff to have reached its longest pause."""
MANY = 200
"""Jobs that end while Redis is down: each of them waits for it."""
LIMIT_SECONDS = 60
EVENTS = "{evaluation}:events"
_ENDED_AT = "2026-11-21T08:10:00Z"
_PLAIN = """
import asyncio, os, sys, redis.asyncio
from kubernetes_asyncio import client, config
async def main():
    await config.load_kube_config(os.environ["KUBECONFIG"])
    async with client.ApiClient() as api, redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) as r:
        for job in (await client.BatchV1Api(api).list_namespaced_job(sys.argv[1])).items:
            if job.metadata.name == sys.argv[2] and job.status.succeeded:
                await r.xadd("plain", {"name": sys.argv[2]})
asyncio.run(main())
"""
"""What people write instead, started at the same moment: list, and publish what has ended."""


class World:
    """Jobs whose status is ours to write, on an API server that can be taken away."""

    def __init__(self, url: str, line: Connection) -> None:
        self.url = f"{url}/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
        self._line = line
        self._made = 0

    def run_one(self) -> str:
        self._made += 1
        name = f"evaluation-{self._made}"
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}
        metadata = {"name": name, "labels": {"app": "evaluation", "eval-id": name}}
        spec = {"managedBy": "example.org/benchmark", "template": template}
        self._call("POST", self.url, {"kind": "Job", "apiVersion": "batch/v1", "metadata": metadata, "spec": spec})
        self._write(name, {"startTime": "2026-11-21T08:09:09Z", "active": 1, "ready": 1})
        return name

    def end(self, name: str) -> float:
        """Unix seconds at which the API server had taken it; asks until it does."""
        done = {"status": "True", "reason": "CompletionsReached", "lastTransitionTime": _ENDED_AT}
        conditions = [{"type": kind, "lastProbeTime": _ENDED_AT, **done} for kind in ("SuccessCriteriaMet", "Complete")]
        while True:
            with contextlib.suppress(OSError):
                self._write(
                    name,
                    {"active": 0, "ready": 0, "completionTime": _ENDED_AT, "succeeded": 1, "conditions": conditions},
                )
                return time.time()
            time.sleep(0.001)

    def go(self, where: str) -> None:
        """Down or up."""
        self._line.send(where)
        self._line.recv()

    def _write(self, name: str, status: dict[str, Any]) -> None:
        self._call("PATCH", f"{self.url}/{name}/status", {"status": status})

    def _call(self, method: str, url: str, body: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()


@contextmanager
def _cluster(config: Path) -> Iterator[World]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(config, theirs), daemon=True)
    process.start()
    try:
        yield World(ours.recv(), ours)
    finally:
        ours.send("end")
        process.join(10)


def _serve(config: Path, line: Connection) -> None:
    asyncio.run(_play(config, line))


async def _play(config: Path, line: Connection) -> None:
    async with DevCluster() as cluster:
        cluster.registry.create(_namespaces(), "", {"metadata": {"name": NAMESPACE}})
        cluster.write_kubeconfig(config)
        line.send(cluster.url)
        loop = asyncio.get_running_loop()
        while (asked := await loop.run_in_executor(None, line.recv)) != "end":
            await (cluster.go_down() if asked == "down" else cluster.come_up())
            line.send("done")


def _namespaces() -> Any:
    from devcluster.scheme import NAMESPACES

    return NAMESPACES


def rows() -> list[tuple[str, str, str]]:
    tries = int(os.environ.get("TRIES", TRIES))
    with tempfile.TemporaryDirectory() as folder, valkey("--appendfsync", "everysec", persistent=True) as server:
        config = Path(folder) / "kubeconfig"
        with _cluster(config) as world, redis.Redis(port=server.port) as client:
            settings = {"KUBECONFIG": str(config), "REDIS_URL": server.url}
            controller = Running(folder, **settings)
            controller.wait_until_ready()
            api = [_after_api_server(world, client) for _ in range(tries)]
            back = [_after_redis(world, client, server) for _ in range(tries)]
            killed = []
            for _ in range(tries):
                delay, controller = _after_kill(world, client, controller, folder, settings)
                killed.append(delay)
            plain = [_plain(world, client, settings) for _ in range(tries)]
            controller.process.terminate()
            controller.process.wait(60)
    return [
        ("API server up again: from its first write to the message", _figure(api), f"max {max(api):.2f} s"),
        (
            "Redis back: from its first write to the first message",
            _figure([first for first, _ in back]),
            f"max {max(first for first, _ in back):.2f} s; all {MANY} that waited within"
            f" {max(every for _, every in back):.2f} s",
        ),
        (
            "killed and started: from exec to the message",
            _figure(killed),
            f"max {max(killed):.2f} s; a plain kubernetes-asyncio script {_figure(plain)}, max {max(plain):.2f} s",
        ),
    ]


def _after_api_server(world: World, client: redis.Redis) -> float:
    name = _running(world, client)
    world.go("down")
    time.sleep(AWAY_SECONDS)
    world.go("up")
    accepted = world.end(name)
    return _published(client, name) - accepted


def _after_redis(world: World, client: redis.Redis, server: ValkeyServer) -> tuple[float, float]:
    names = [world.run_one() for _ in range(MANY)]
    for name in names:
        _published(client, name, "running")
    server.stop(kill=True)
    for name in names:
        world.end(name)
    time.sleep(AWAY_SECONDS)
    server.start()
    accepted = time.time()
    published = [_published(client, name) - accepted for name in names]
    return min(published), max(published)


def _after_kill(
    world: World, client: redis.Redis, controller: Running, folder: str, settings: dict[str, str]
) -> tuple[float, Running]:
    name = _running(world, client)
    controller.process.kill()
    controller.process.wait()
    world.end(name)
    again = Running(folder, **settings)
    return _published(client, name) - again.began, again


def _plain(world: World, client: redis.Redis, settings: dict[str, str]) -> float:
    name = _running(world, client)
    world.end(name)
    began = time.time()
    subprocess.run([sys.executable, "-c", _PLAIN, NAMESPACE, name], env={**os.environ, **settings}, check=True)
    ((entry, _fields),) = client.xrevrange("plain", count=1)
    return _at(entry) - began


def _running(world: World, client: redis.Redis) -> str:
    name = world.run_one()
    _published(client, name, "running")
    return name


def _published(client: redis.Redis, name: str, status: str = "completed") -> float:
    """Unix seconds at which Redis took the event, by its own clock, which is this machine's."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError):
            for entry, fields in client.xrevrange(EVENTS, count=2 * MANY):
                if (fields[b"eval_id"], fields[b"status"]) == (name.encode(), status.encode()):
                    return _at(entry)
        time.sleep(0.005)
    raise AssertionError(f"{name} was not published {status} within {LIMIT_SECONDS} s")


def _at(entry: bytes) -> float:
    return int(entry.split(b"-")[0]) / 1000


def _figure(seconds: list[float]) -> str:
    return f"p50 {sorted(seconds)[len(seconds) // 2]:.2f} s"
