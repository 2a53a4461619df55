"""An API server that plays one scene: Jobs that run, and end on request. It runs in its own process.

Its list shows every Job running with its Pod. Each ends twice: its Pod's container, and `lead` seconds later its condition.
Logs are served as fast as they are taken. Times are the machine's monotonic clock, which all its processes share.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from aiohttp import web

from benchmarks.beside import beside
from benchmarks.objects import job, pod

CHUNK_BYTES = 64 * 1024
NAMESPACE = "evaluations"
ENDED_AT = "2026-11-21T08:10:00Z"

LINE = b"2026-11-21T08:09:%02d.%06dZ INFO  runner.evaluate step=%d loss=0.%04d tokens=%d accepted\n"


def log_block(size: int) -> bytes:
    """So many bytes of what a program prints."""
    lines = b"".join(
        LINE % (n % 60, n * 7919 % 1_000_000, n, n * 31 % 10_000, n * 104_729 % 65_536) for n in range(size // 80)
    )
    return lines.ljust(size, b".")[: size - 1] + b"\n"


class Scene(NamedTuple):
    jobs: int
    seconds: float
    """In which they all end, one after the other."""
    lead: float
    """From a container's end to its Job's condition."""
    log_bytes: int
    log_repeats: int = 1
    """How often `log_bytes` are sent for one log."""


class Played(NamedTuple):
    """When things left the server, by the Job's uid."""

    conditions: dict[str, float]
    logs: dict[str, float]
    """The last byte of its log."""


class Stage:
    """The other process."""

    def __init__(self, url: str, line: Connection) -> None:
        self.url = url
        self._line = line

    def go(self) -> None:
        self._line.send("go")

    def played(self) -> Played:
        self._line.send("end")
        published: Played = self._line.recv()
        return published


@contextmanager
def playing(scene: Scene) -> Iterator[Stage]:
    with beside(_play, scene) as (url, line):
        yield Stage(url, line)


def _play(scene: Scene, line: Connection) -> None:
    asyncio.run(_Cluster(scene, line).run())


class _Cluster:
    def __init__(self, scene: Scene, line: Connection) -> None:
        self._scene = scene
        self._line = line
        self._version = 1_000_000
        self._jobs = [job(n) for n in range(scene.jobs)]
        self._pods = [pod(n) for n in range(scene.jobs)]
        self._uids = {
            pod["metadata"]["name"]: job["metadata"]["uid"] for job, pod in zip(self._jobs, self._pods, strict=True)
        }
        self._watches: dict[str, list[asyncio.Queue[bytes]]] = {"jobs": [], "pods": []}
        lines = log_block(scene.log_bytes).splitlines(keepends=True)
        self._stamped = b"".join(b"2026-11-21T08:09:10.%09dZ %b" % pair for pair in enumerate(lines))
        self._played = Played({}, {})

    async def run(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/apis/batch/v1/namespaces/{namespace}/jobs", self._collection),
                web.get("/api/v1/namespaces/{namespace}/pods", self._collection),
                web.get("/api/v1/namespaces/{namespace}/pods/{name}/log", self._log),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._line.send(runner.addresses[0][1])
        loop = asyncio.get_running_loop()
        acting = None
        while (word := await loop.run_in_executor(None, self._line.recv)) != "end":
            assert word == "go"
            acting = asyncio.create_task(self._act())
        if acting is not None:
            await acting
        self._line.send(self._played)

    async def _act(self) -> None:
        begun = asyncio.get_running_loop().time()
        pause = self._scene.seconds / self._scene.jobs
        async with asyncio.TaskGroup() as group:
            for number in range(self._scene.jobs):
                await asyncio.sleep(max(0.0, begun + number * pause - asyncio.get_running_loop().time()))
                group.create_task(self._end(number))

    async def _end(self, number: int) -> None:
        ended = {"exitCode": 0, "startedAt": "2026-11-21T08:09:10Z", "finishedAt": ENDED_AT, "reason": "Completed"}
        status = {"name": "evaluation", "restartCount": 0, "state": {"terminated": ended}}
        self._tell("pods", self._pods[number], {"phase": "Succeeded", "containerStatuses": [status]})
        if self._scene.lead:
            await asyncio.sleep(self._scene.lead)
        condition = {
            "type": "Complete",
            "status": "True",
            "lastTransitionTime": ENDED_AT,
            "reason": "CompletionsReached",
        }
        found = self._jobs[number]
        change = {**found["status"], "active": 0, "ready": 0, "succeeded": 1, "conditions": [condition]}
        self._played.conditions[found["metadata"]["uid"]] = time.monotonic()
        self._tell("jobs", found, change)

    def _tell(self, kind: str, obj: dict[str, Any], status: dict[str, Any]) -> None:
        self._version += 1
        obj["status"] = status
        obj["metadata"]["resourceVersion"] = str(self._version)
        line = json.dumps({"type": "MODIFIED", "object": obj}, separators=(",", ":")).encode() + b"\n"
        for watch in self._watches[kind]:
            watch.put_nowait(line)

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/")[2]
        if "watch" not in request.query:
            items = self._jobs if kind == "jobs" else self._pods
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._watches[kind].append(lines)
        try:
            while True:
                await response.write(await lines.get())
        finally:
            self._watches[kind].remove(lines)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        if "limitBytes" in request.query:  # whose time is the first line's?
            return web.Response(body=b"2026-11-21T08:09:10.000000000Z first"[: int(request.query["limitBytes"])])
        name = request.match_info["name"]
        block, repeats = self._stamped, self._scene.log_repeats if name in self._uids else 1
        if "tailLines" in request.query:
            lines = block.splitlines(keepends=True)
            return web.Response(body=b"".join(lines[-int(request.query["tailLines"]) :]))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.content_length = len(block) * repeats
        await response.prepare(request)
        for _ in range(repeats):
            for start in range(0, len(block), CHUNK_BYTES):
                await response.write(block[start : start + CHUNK_BYTES])
        await response.write_eof()
        self._played.logs[self._uids.get(name, name)] = time.monotonic()
        return response
