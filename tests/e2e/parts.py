"""Controllers and workers as the processes that operators run, and what their subscribers got."""

import asyncio
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio

from tests.conftest import eventually, free_port

ROOT = Path(__file__).parents[2]
TERMINAL = {"completed", "failed", "cancelled"}


class Part:
    """One process, its log and its probes."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], port: int, folder: Path) -> None:
        self.name = name
        self.port = port
        self.log = folder / f"{name}-{port}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **environment}, start_new_session=True
            )

    def answers(self, path: str) -> bool:
        assert self.process.poll() is None, f"{self.name} has ended:\n{self.log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        self.process.kill()
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
    """Starts parts for one namespace and one Redis, and ends all of them."""

    def __init__(self, namespace: str, redis_url: str, folder: Path) -> None:
        self._environment = {"REDIS_URL": redis_url, "NAMESPACES": namespace, "HTTP_HOST": "127.0.0.1"}
        self._folder = folder
        self._parts: list[Part] = []

    async def controller(self, **settings: str) -> Part:
        port = free_port()
        environment = {**self._environment, "HTTP_PORT": str(port), **settings}
        part = Part("controller", [sys.executable, "-m", "controller"], environment, port, self._folder)
        self._parts.append(part)
        await eventually(lambda: part.answers("/readyz"), 30)
        return part

    async def worker(self, **settings: str) -> Part:
        port = free_port()
        environment = {**self._environment, "WORKER_HTTP_PORT": str(port), **settings}
        command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "threads", "-c", "2"]
        command += ["-n", f"worker-{port}@e2e"]
        part = Part("worker", command, environment, port, self._folder)
        self._parts.append(part)
        await eventually(lambda: part.answers("/livez"), 30)
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

    def of(self, eval_id: str) -> list[dict[str, Any]]:
        return [event for event in self.heard if event["eval_id"] == eval_id]

    async def statuses(self) -> dict[str, list[str]]:
        """By Job uid, the statuses in the order of the stream."""
        told = defaultdict(list)
        for event in await self.stream():
            told[event["job"]["uid"]].append(event["status"])
        return told

    async def end_of(self, eval_id: str, timeout: float = 60) -> dict[str, Any]:
        def ends() -> list[dict[str, Any]]:
            return [event for event in self.of(eval_id) if event["status"] in TERMINAL]

        return (await eventually(ends, timeout))[0]

    async def _listen(self) -> None:
        async for message in self._pubsub.listen():
            if message["type"] == "pmessage":
                event = msgspec.json.decode(message["data"])
                assert message["channel"].decode() == f"evaluation:{event['status']}"
                self.heard.append(event)
