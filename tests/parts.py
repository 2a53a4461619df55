"""Controllers and workers as the processes that operators run, and what their subscribers got."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio

from testbed.pages import page
from testbed.ports import free_port
from tests.conftest import eventually
from tests.published import complaints_of_hash

ROOT = Path(__file__).parents[1]
TERMINAL = {"completed", "failed", "cancelled"}
START_SECONDS = 30
"""For a process to be ready: an import of everything on a busy machine takes some."""


class Part:
    """One process, its log and its probes."""

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], port: int, folder: Path, ready: str
    ) -> None:
        self.name = name
        self.port = port
        self.log = folder / f"{name}-{port}.log"
        self._ready = ready
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **environment}, start_new_session=True
            )

    def answers(self, path: str) -> bool:
        assert self.process.poll() is None, f"{self.name} has ended:\n{self.log.read_text()[-3000:]}"
        return page(self.port, path, 2)[0] == 200

    def wait(self) -> None:
        """Until it is ready; blocks."""
        deadline = time.monotonic() + START_SECONDS
        while not self.answers(self._ready):
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def kill(self) -> None:
        """With its children: as when its machine is gone."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code. Fails when it takes longer than its grace period allows."""
        self.process.terminate()
        try:
            return self.process.wait(40)
        finally:
            if self.process.poll() is None:
                self.kill()


class Parts:
    """Starts parts with a common environment, and ends all of them."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = {**environment, "HTTP_HOST": "127.0.0.1", "TMPDIR": str(folder)}
        self._folder = folder
        self._parts: list[Part] = []

    def start_controller(self, **settings: str) -> Part:
        """Does not wait for it."""
        port = free_port()
        environment = {**self.environment, "HTTP_PORT": str(port), **settings}
        command = [sys.executable, "-m", "controller"]
        self._parts.append(Part("controller", command, environment, port, self._folder, "/readyz"))
        return self._parts[-1]

    def start_worker(self, *options: str, **settings: str) -> Part:
        """Does not wait for it. `options` are Celery's."""
        port = free_port()
        environment = {**self.environment, "WORKER_HTTP_PORT": str(port), **settings}
        command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-n", f"worker-{port}@e2e"]
        command += options or ("-P", "threads", "-c", "2")
        self._parts.append(Part("worker", command, environment, port, self._folder, "/livez"))
        return self._parts[-1]

    async def controller(self, **settings: str) -> Part:
        part = self.start_controller(**settings)
        await asyncio.to_thread(part.wait)
        return part

    async def worker(self, *options: str, **settings: str) -> Part:
        part = self.start_worker(*options, **settings)
        await asyncio.to_thread(part.wait)
        return part

    def stop(self) -> None:
        for part in self._parts:
            if part.process.poll() is None:
                part.stop()


class Told:
    """What a plain Redis subscriber hears, from `start` on."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url)
        self.heard: list[dict[str, Any]] = []
        """Events of all evaluations."""
        self.progress: list[dict[str, Any]] = []
        self.everything: list[dict[str, Any]] = []
        """Both, in the order in which they came."""
        self.mistakes: list[str] = []

    async def __aenter__(self) -> "Told":
        self._pubsub = self._client.pubsub()
        await self._pubsub.psubscribe("evaluation:*")
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._pubsub.aclose()
        await self._client.aclose()

    async def stream(self) -> list[dict[str, Any]]:
        """Every entry of the durable stream, in order."""
        entries = await self._client.xrange("{evaluation}:events")
        return [msgspec.json.decode(fields[b"event"]) for _, fields in entries]

    async def dead_letters(self) -> list[dict[bytes, bytes]]:
        letters = [letter for _, letter in await self._client.xrange("{evaluation}:dead")]
        for letter in letters:
            fields = {name.decode(): value.decode(errors="replace") for name, value in letter.items()}
            assert complaints_of_hash("dead-letter", fields) == []
        return letters

    async def row(self, uid: str) -> dict[str, str]:
        """What the ledger keeps of a Job."""
        row = await self._client.hgetall(f"{{evaluation}}:job:{uid}")
        return {field.decode(): value.decode() for field, value in row.items()}

    def of(self, eval_id: str) -> list[dict[str, Any]]:
        return [event for event in self.heard if event["eval_id"] == eval_id]

    async def statuses(self) -> dict[str, list[str]]:
        """By Job uid, the statuses in the order of the stream."""
        published = defaultdict(list)
        for event in await self.stream():
            published[event["job"]["uid"]].append(event["status"])
        return published

    async def end_of(self, eval_id: str, timeout: float = 60) -> dict[str, Any]:
        def ends() -> list[dict[str, Any]]:
            return [event for event in self.of(eval_id) if event["status"] in TERMINAL]

        return (await eventually(ends, timeout))[0]

    async def _listen(self) -> None:
        async for message in self._pubsub.listen():
            if message["type"] != "pmessage":
                continue
            channel = message["channel"].decode().removeprefix("evaluation:")
            if channel.endswith(":logs"):
                continue
            event = msgspec.json.decode(message["data"])
            self.everything.append(event)
            if channel == "progress":
                self.progress.append(event)
                continue
            if channel != event["status"]:
                self.mistakes.append(f"{event['status']} was published on the channel {channel}")
            self.heard.append(event)
