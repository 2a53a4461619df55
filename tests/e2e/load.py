"""Jobs at a steady rate whose lives are written by the test, and when each fact was written and published. Nobody runs them: with
`managedBy`, their status is ours to write, so twenty a second cost a node nothing."""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
import redis.asyncio

from tests.api import MERGE, Api, Obj, evaluation
from tests.conftest import eventually

MANAGER = "tests.jobcast.dev/load"
LIFE_SECONDS = 1.0
STREAM = "{evaluation}:events"

Fact = tuple[str, str]
"""A Job's uid, and the status."""


class Load:
    """`written` and `published` are on the same clock: seconds of this machine, monotonic."""

    def __init__(self, api: Api, rate: float) -> None:
        self._api = api
        self._pause = 1 / rate
        self.written: dict[Fact, float] = {}
        """When the API server had taken it."""
        self.published: dict[Fact, float] = {}
        self.events: dict[str, list[str]] = defaultdict(list)
        """By the Job's uid, the statuses in the order of the stream."""
        self.ids: list[str] = []
        self.real: set[str] = set()
        """The uids of Jobs that the node runs."""
        self.logs: dict[str, str] = {}
        """Of those that have ended, by uid, what is known of the log."""
        self._is_beginning = self._is_listening = True

    @asynccontextmanager
    async def running(self, url: str) -> AsyncIterator[None]:
        """They begin at that rate until the body ends; then all of them end. Listens at this Redis."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(url))
            beginning = tasks.create_task(self._begin())
            try:
                yield
                self._is_beginning = False
                await beginning
                await eventually(lambda: self.published.keys() >= self.written.keys(), 30)
                await eventually(lambda: self.logs.keys() >= self.real, 60)
            finally:
                # Not by cancelling: redis-py may swallow that, and go on for ever.
                self._is_beginning = self._is_listening = False

    async def steady(self, count: int) -> None:
        """Until so many more facts were written, and all before them published."""
        so_far = set(self.written)
        goal = len(self.written) + count
        await eventually(lambda: len(self.written) >= goal and self.published.keys() >= so_far, 60)

    async def run(self, name: str) -> None:
        """A Job that the node runs, and of which there is a log to be read."""
        job = await self._api.create(evaluation(name, "for word in one two three; do echo $word; sleep 1; done"))
        self.real.add(job["metadata"]["uid"])

    def delays(self, since: float, until: float) -> list[float]:
        """Of the facts that were written in that time, the longest last."""
        return sorted(
            self.published.get(fact, float("inf")) - at for fact, at in self.written.items() if since <= at < until
        )

    async def _begin(self) -> None:
        async with asyncio.TaskGroup() as lives:
            due = time.monotonic()
            for number in itertools.count():
                if not self._is_beginning:
                    break
                lives.create_task(self._live(f"load-{number:05}"))
                due += self._pause
                await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _live(self, name: str) -> None:
        job = await self._api.create(evaluation(name, managedBy=MANAGER))
        uid = job["metadata"]["uid"]
        start = _now()
        await self._write(name, (uid, "running"), {"startTime": start, "active": 1, "ready": 1})
        await asyncio.sleep(LIFE_SECONDS)
        conditions = [
            {"type": kind, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": _now()}
            for kind in ("SuccessCriteriaMet", "Complete")
        ]
        end = {"active": 0, "ready": 0, "completionTime": _now(), "conditions": conditions}
        await self._write(name, (uid, "completed"), end)

    async def _write(self, name: str, fact: Fact, status: Obj) -> None:
        code, published = await self._api.call(
            "PATCH", f"{self._api.jobs}/{name}/status", json={"status": status}, headers={"Content-Type": MERGE}
        )
        assert code == 200, published
        self.written[fact] = time.monotonic()

    async def _listen(self, url: str) -> None:
        last = "0"
        async with redis.asyncio.Redis.from_url(url) as client:
            while self._is_listening:
                reply = await client.xread({STREAM: last}, count=1000, block=500)
                now = time.monotonic()
                for _, entries in reply:
                    for entry, fields in entries:
                        last = entry.decode()
                        event = msgspec.json.decode(fields[b"event"])
                        self._hear(event, now)

    def _hear(self, event: Obj, now: float) -> None:
        uid, status = event["job"]["uid"], event["status"]
        self.ids.append(event["id"])
        self.events[uid].append(status)
        if uid not in self.real:
            self.published.setdefault((uid, status), now)
        elif status != "running":
            self.logs[uid] = event["log"]["state"]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
