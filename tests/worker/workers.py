"""Workers as real processes, and events told through the real Ledger. No conftest: its name would hide the root's."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from jobcast import wire
from jobcast.event import Completed, Event, JobRef, Log, Running, event_id
from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger, Outgoing, Step
from jobcast.redis.connection import connect, connect_plain
from jobcast.service.http import ThreadServer
from jobcast.service.probes import Probes
from testbed.pages import page
from testbed.ports import free_port
from tests.published import complaints_of_hash
from worker.pool_metrics import exposition

ROOT = Path(__file__).parents[2]

HANDLERS = """
import os, time
import redis
from jobcast import on

calls = redis.Redis.from_url(os.environ["CALLS_URL"])

def call(name, event):
    calls.rpush("calls", f"{name} {event.eval_id} {event.status}")

def wait_for(gate):
    while not calls.exists(gate):
        time.sleep(0.01)
"""
"""The beginning of every module of handlers here: `call` leaves a trace that any process may read."""
SCORE = """
@on("completed")
def score(event):
    call("score", event)
"""
GATED = """
@on("completed")
def score(event):
    call("score", event)
    wait_for("gate")
"""
ONE_AT_A_TIME = ("-P", "threads", "-c", "1")


class ServedProbes(Probes):
    port: int


@contextmanager
def probing() -> Iterator[ServedProbes]:
    """Probes as a worker serves them, without any check yet."""
    probes = ServedProbes(exposition)
    server = ThreadServer("127.0.0.1", 0, probes)
    probes.port = server.port
    server.start()
    try:
        yield probes
    finally:
        server.stop()


def asked(probes: ServedProbes, path: str) -> tuple[int, str]:
    """What it answers."""
    return page(probes.port, path)


def completed(name: str, output: str = "42") -> Completed:
    return Completed(
        id=event_id(f"uid-{name}", "completed", ""),
        eval_id=name,
        timestamp=1.0,
        time="1970-01-01T00:00:01Z",
        job=JobRef("default", name, f"uid-{name}"),
        metadata={"job_name": name},
        exit_code=0,
        output=output,
        output_truncated=False,
        error=None,
        duration_seconds=1.0,
        reason=None,
        attempts=[],
        log=Log(),
    )


def running(name: str) -> Running:
    return Running(
        id=event_id(f"uid-{name}", "running", "start"),
        eval_id=name,
        timestamp=0.0,
        time="1970-01-01T00:00:00Z",
        job=JobRef("default", name, f"uid-{name}"),
        metadata={"job_name": name},
        started_at=None,
        timeout=None,
        executor_id=name,
        container_id=name,
    )


def tell(url: str, prefix: str, *events: Event) -> None:
    """Each event through a step of the Ledger; events of one Job that follow each other, in one step."""

    async def all_of_them() -> None:
        client = connect(url, prefix=prefix)
        jobs: dict[str, list[Event]] = {}
        for event in events:
            jobs.setdefault(event.job.uid, []).append(event)
        async with Ledger(client, Keys(prefix)) as ledger:
            await asyncio.gather(*(ledger.step(_step(of_job)) for of_job in jobs.values()))
        await client.aclose()

    asyncio.run(all_of_them())


def _step(events: list[Event]) -> Step:
    last = events[-1]
    outgoing = tuple(Outgoing(event.id, event.status, wire.encode(event)) for event in events)
    return Step(
        uid=last.job.uid,
        version=1,
        created=1.0,
        eval_id=last.eval_id,
        namespace=last.job.namespace,
        name=last.job.name,
        status=last.status,
        outgoing=outgoing,
    )


class Worker:
    """`celery -A worker worker` with these handlers."""

    def __init__(
        self, url: str, folder: Path, handlers: str = "", *options: str, name: str = "one", **env: str
    ) -> None:
        self._module = folder / "my_handlers.py"
        self._module.write_text(HANDLERS + handlers)
        self.port = free_port()
        self._command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-n", f"{name}@test"]
        self._command += ["--without-mingle", "--without-gossip", *(options or ("-P", "threads", "-c", "2"))]
        self._log = folder / f"{name}.log"
        self._env = {
            **{key: value for key, value in os.environ.items() if key != "KUBECONFIG"},
            "REDIS_URL": url,
            "CALLS_URL": url,
            "HANDLERS": self._module.stem if handlers else "",
            "PYTHONPATH": str(folder),
            "TMPDIR": str(folder),
            "WORKER_HTTP_PORT": str(self.port),
            "HTTP_HOST": "127.0.0.1",
            "SWEEP_SECONDS": "0",
            "LOG_FORMAT": "json",
            **env,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Worker":
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def kill(self) -> None:
        """SIGKILL, to its children too: as when its machine is gone."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout: float = 60) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def said(self, event: str, **fields: object) -> list[dict[str, object]]:
        """The lines of its log with this text and these fields."""
        whole = self.log.split("\n")[:-1]  # what is being written just now is not
        lines = [json.loads(line) for line in whole if line.startswith('{"time"')]
        return [line for line in lines if line["event"] == event and fields.items() <= line.items()]

    def unreachable(self, system: str) -> int:
        """How often it logged that this one does not answer."""
        return len(self.said("dependency unreachable, retrying", system=system))

    def reachable_again(self, system: str) -> int:
        return len(self.said("dependency reachable again", system=system))

    def get(self, path: str) -> tuple[int, str]:
        """What it answers over HTTP; code 0 while it does not."""
        return page(self.port, path)

    def __enter__(self) -> "Worker":
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            if kind is None:
                try:
                    assert self.stop() == 0, self.log
                    return
                finally:
                    if self.process.poll() is None:
                        self.kill()
            self.kill()
        if kind is not None:
            print(self.log)


class World:
    """What is in Redis."""

    def __init__(self, url: str, prefix: str) -> None:
        self.client = connect_plain(url, prefix=prefix, decode_responses=True)
        self.keys = Keys(prefix)

    @property
    def calls(self) -> list[str]:
        return self.client.lrange("calls", 0, -1)

    @property
    def pending(self) -> list[str]:
        """Ids of the entries that are handed to the group and not acknowledged."""
        reply = self.client.xpending_range(self.keys.events, "worker", "-", "+", 1000)
        return [item["message_id"] for item in reply]

    @property
    def holders(self) -> set[str]:
        """Names of the consumers that hold something."""
        reply = self.client.xpending_range(self.keys.events, "worker", "-", "+", 1000)
        return {item["consumer"] for item in reply}

    @property
    def is_done(self) -> bool:
        """The group has been given everything and has acknowledged everything."""
        try:
            groups = self.client.xinfo_groups(self.keys.events)
        except redis.ResponseError:
            return False
        return bool(groups) and groups[0]["lag"] == 0 and groups[0]["pending"] == 0

    @property
    def dead(self) -> list[dict[str, str]]:
        letters = [fields for _, fields in self.client.xrange(self.keys.dead)]
        assert [line for letter in letters for line in complaints_of_hash("dead-letter", letter)] == []
        return letters

    def open_gate(self, name: str) -> None:
        self.client.set(name, 1)


@contextmanager
def world(url: str, prefix: str) -> Iterator[World]:
    it = World(url, prefix)
    try:
        yield it
    finally:
        it.client.close()
