"""An API server that replays a recorded life, Job after Job, at the rate that it is asked for. It runs in its own process.

    Job n is running from the time it has started until it has ended, is ended until it has gone, and is then no more

Three counters say it all, so a list is a range and nothing is kept of what has gone. Each line is the recording with its
number put in. Every `pods_every`-th Job has a Pod, whose log is read.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from aiohttp import web

from benchmarks.beside import beside
from benchmarks.objects import job, pod

NAMESPACE = "evaluations"
ENDED_AT = "2026-11-21T08:10:00Z"
HISTORY_LINES = 50_000
"""What a watch may have missed between its list and its opening."""
MOST_AT_ONCE = 50
"""Lives per turn of the loop; between two turns the watches are written to."""
TURN_SECONDS = 0.01


class Tape(NamedTuple):
    """What is played."""

    running: int
    """Jobs that run at the same time."""
    staying: int | None
    """Jobs that have ended and are still there; None: they stay for good."""
    pods_every: int = 1
    log_bytes: int = 4096


class Position(NamedTuple):
    started: int
    ended: int
    gone: int


class Player:
    """The other process, from ours."""

    def __init__(self, url: str, line: Connection) -> None:
        self.url = url
        self._line = line

    def play(self, jobs: int, rate: float | None = None) -> None:
        """Go on until so many Jobs in all have ended; `rate`: that many a second, else at once."""
        self._line.send((jobs, rate))

    def position(self) -> Position:
        self._line.send(None)
        published: Position = self._line.recv()
        return published


@contextmanager
def playing(tape: Tape) -> Iterator[Player]:
    with beside(_serve, tape) as (url, line):
        yield Player(url, line)


def _serve(tape: Tape, line: Connection) -> None:
    asyncio.run(_Server(tape, line).run())


class _Recording:
    """Jobs and Pods as bytes, with their number and version put in."""

    def __init__(self) -> None:
        made, its_pod = _slim(job(0)), pod(0)
        ended = {"exitCode": 0, "startedAt": "2026-11-21T08:09:10Z", "finishedAt": ENDED_AT, "reason": "Completed"}
        over = {"name": "evaluation", "restartCount": 0, "state": {"terminated": ended}}
        condition = {
            "type": "Complete",
            "status": "True",
            "lastTransitionTime": ENDED_AT,
            "reason": "CompletionsReached",
        }
        done = {**made["status"], "active": 0, "ready": 0, "succeeded": 1, "conditions": [condition]}
        self._parts = {
            ("jobs", False): _cut(made),
            ("jobs", True): _cut({**made, "status": done}),
            ("pods", False): _cut(its_pod),
            ("pods", True): _cut({**its_pod, "status": {"phase": "Succeeded", "containerStatuses": [over]}}),
        }

    def take(self, kind: str, number: int, version: int, *, is_ended: bool) -> bytes:
        return self._parts[kind, is_ended].replace(b"99999998", b"%08d" % number).replace(b"99999997", b"%d" % version)


def _slim(made: dict[str, Any]) -> dict[str, Any]:
    """Without fields that nothing here reads: the benchmark writes a million of them."""
    metadata = {name: value for name, value in made["metadata"].items() if name != "managedFields"}
    spec = {name: value for name, value in made["spec"].items() if name != "template"}
    return {
        **made,
        "metadata": metadata,
        "spec": {**spec, "template": {"spec": {"containers": [{"name": "evaluation"}]}}},
    }


def _cut(made: dict[str, Any]) -> bytes:
    """The recording, with a place for each number."""
    uid, metadata = "00000000-0000-4000-8000-000099999998", made["metadata"]
    is_pod = "ownerReferences" in metadata
    metadata = {**metadata, "resourceVersion": "99999997", "uid": uid.replace("-8000-", "-9000-") if is_pod else uid}
    metadata["name"] = "evaluation-99999998-abcde" if is_pod else "evaluation-99999998"
    if is_pod:
        metadata["ownerReferences"] = [{"kind": "Job", "uid": uid, "controller": True}]
    else:
        metadata["labels"] = {**metadata["labels"], "eval-id": "evaluation-99999998"}
    return json.dumps({**made, "metadata": metadata}, separators=(",", ":")).encode()


class _Server:
    def __init__(self, tape: Tape, line: Connection) -> None:
        self._tape = tape
        self._line = line
        self._recording = _Recording()
        self._log = b"2026-11-21T08:09:10Z INFO step accepted\n" * (tape.log_bytes // 40)
        self._version = 1_000
        self._started = self._ended = self._gone = 0
        self._until, self._rate = 0, 0.0
        self._history: dict[str, deque[tuple[int, bytes]]] = {
            kind: deque(maxlen=HISTORY_LINES) for kind in ("jobs", "pods")
        }
        self._news = asyncio.Condition()

    async def run(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/apis/batch/v1/namespaces/{namespace}/jobs", self._collection),
                web.get("/apis/batch/v1/namespaces/{namespace}/jobs/{name}", self._one),
                web.get("/api/v1/namespaces/{namespace}/pods", self._collection),
                web.get("/api/v1/namespaces/{namespace}/pods/{name}/log", self._read_log),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._line.send(runner.addresses[0][1])
        acting = asyncio.create_task(self._act())
        loop = asyncio.get_running_loop()
        with contextlib.suppress(EOFError):
            while True:
                asked = await loop.run_in_executor(None, self._line.recv)
                if asked is None:
                    self._line.send(Position(self._started, self._ended, self._gone))
                else:
                    self._until, self._rate = asked[0], asked[1] or 0.0
        acting.cancel()

    async def _act(self) -> None:
        owed, last = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(TURN_SECONDS)
            now = time.monotonic()
            owed = min(owed + (now - last) * self._rate, 10 * MOST_AT_ONCE) if self._rate else MOST_AT_ONCE
            last = now
            while owed >= 1 and self._ended < self._until:
                owed -= 1
                self._step()
            async with self._news:
                self._news.notify_all()

    def _step(self) -> None:
        """One Job ends; those that belong around it start and go."""
        while self._started <= self._ended + self._tape.running:
            self._tell("ADDED", self._started, is_ended=False)
            self._started += 1
        self._tell("MODIFIED", self._ended, is_ended=True)
        self._ended += 1
        if self._tape.staying is not None and self._ended - self._gone > self._tape.staying:
            self._tell("DELETED", self._gone, is_ended=True)
            self._gone += 1

    def _tell(self, event: str, number: int, *, is_ended: bool) -> None:
        """First the Pod, as a kubelet and a Job controller do."""
        for kind in ("pods", "jobs"):
            if kind == "pods" and number % self._tape.pods_every:
                continue
            self._version += 1
            found = self._recording.take(kind, number, self._version, is_ended=is_ended)
            line = b'{"type":"%s","object":%s}\n' % (event.encode(), found)
            self._history[kind].append((self._version, line))

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/")[2]
        if "watch" in request.query:
            return await self._watch(request, kind, int(request.query["resourceVersion"]))
        _, is_one, name = request.query.get("labelSelector", "").partition("job-name=")
        first = int(name.rpartition("-")[2]) if is_one else int(request.query.get("continue") or self._gone)
        limit = 1 if is_one else int(request.query.get("limit", 500))
        page = range(max(first, self._gone), min(first + limit, self._started))
        items = [
            self._recording.take(kind, number, self._version, is_ended=number < self._ended)
            for number in page
            if kind == "jobs" or number % self._tape.pods_every == 0
        ]
        follows = str(page.stop) if page.stop < self._started and not is_one else ""
        head = b'{"metadata":{"resourceVersion":"%d","continue":"%s"},"items":[' % (self._version, follows.encode())
        return web.Response(body=head + b",".join(items) + b"]}", content_type="application/json")

    async def _one(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["name"].rpartition("-")[2])
        if not self._gone <= number < self._started:
            raise web.HTTPNotFound
        found = self._recording.take("jobs", number, self._version, is_ended=number < self._ended)
        return web.Response(body=found, content_type="application/json")

    async def _watch(self, request: web.Request, kind: str, version: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        history = self._history[kind]
        while True:
            async with self._news:
                await self._news.wait()
            lines = []
            for number, line in reversed(history):
                if number <= version:
                    break
                lines.append(line)
            if lines:
                version = history[-1][0]
                await response.write(b"".join(reversed(lines)))

    async def _read_log(self, request: web.Request) -> web.StreamResponse:
        if "limitBytes" in request.query:  # whose time is the first line's?
            return web.Response(body=b"2026-11-21T08:09:10.000000000Z first"[: int(request.query["limitBytes"])])
        return web.Response(body=self._log, content_type="text/plain")
