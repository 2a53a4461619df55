"""The worker, a real one with two processes on a real Valkey: how fast a backlog goes, in how much memory, and how soon a
handler begins."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import redis.exceptions

from jobcast import wire
from jobcast.event import Completed, JobRef, Log, event_id
from jobcast.keys import Keys
from testbed.valkey import valkey

ROOT = Path(__file__).parents[1]
BACKLOG = int(os.environ.get("EVENTS", "100000"))
RATE = 100
SECONDS = 30
KEYS = Keys()
HANDLERS = """
import os, time
import redis
from jobcast import on

heard = redis.Redis.from_url(os.environ["REDIS_URL"])

if "timed" in os.environ["WHAT"]:
    @on()
    def note_how_late(event):
        late = time.time() - event.timestamp
        heard.rpush("late", late)
else:
    @on()
    def nothing(event):
        pass
"""


def rows() -> list[tuple[str, str, str]]:
    with valkey() as server, redis.Redis(port=server.port) as client:
        _fill(client, BACKLOG)
        with _worker(server.url, "no-op") as process:
            speed, memory = _drain(client, process.pid)
        client.flushall()
        with _worker(server.url, "timed"):
            late = _late(client)
    first, most = memory[0], max(memory)
    return [
        (f"stream to a no-op handler, prefork 2, a backlog of {BACKLOG:,}", f"{speed:,.0f}/s", "≥ 1,000/s"),
        (
            "memory of the worker's parent meanwhile, most of it",
            f"{most:.0f} MB",
            f"{first:.0f} MB after a tenth of it ({most / first - 1:+.1%})",
        ),
        (
            f"XADD to the handler's start, at {RATE}/s, p99",
            f"{late[int(len(late) * 0.99)] * 1000:.1f} ms",
            f"≤ 25 ms; p50 {late[len(late) // 2] * 1000:.1f} ms",
        ),
    ]


def _event(number: int) -> Completed:
    name = f"eval-{number}"
    return Completed(
        id=event_id(name, "completed", ""),
        eval_id=name,
        timestamp=time.time(),
        time="2026-01-01T00:00:00Z",
        job=JobRef("default", name, name),
        metadata={"job_name": name},
        exit_code=0,
        output="the answer is 42\n" * 20,
        output_truncated=False,
        error=None,
        duration_seconds=1.0,
        reason=None,
        attempts=[],
        log=Log(),
    )


def _add(client: "redis.client.Pipeline | redis.Redis", number: int) -> None:
    event = _event(number)
    client.xadd(
        KEYS.events,
        {"id": event.id, "status": event.status, "eval_id": event.eval_id, "event": wire.encode(event)},
    )


def _fill(client: redis.Redis, count: int) -> None:
    for start in range(0, count, 1000):
        pipeline = client.pipeline(transaction=False)
        for number in range(start, start + 1000):
            _add(pipeline, number)
        pipeline.execute()


@contextmanager
def _worker(url: str, what: str) -> Iterator["subprocess.Popen[bytes]"]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bench_handlers.py").write_text(HANDLERS)
        environment = {
            **os.environ,
            "REDIS_URL": url,
            "HANDLERS": "bench_handlers",
            "PYTHONPATH": folder,
            "WHAT": what,
            "SWEEP_SECONDS": "0",
            "WORKER_HTTP_PORT": "0",
            "HTTP_HOST": "127.0.0.1",
            "LOG_LEVEL": "warning",
        }
        command = [
            sys.executable,
            *os.environ.get("PROFILE", "").split(),
            "-m",
            "celery",
            "-A",
            "worker",
            "worker",
            "-c",
            "2",
            "-l",
            "warning",
        ]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _drain(client: redis.Redis, pid: int) -> tuple[float, list[float]]:
    """Events a second between a tenth of the backlog and its end, and the parent's memory (MB) on the way."""
    while (left := _left(client)) is None or left > BACKLOG * 0.9:
        time.sleep(0.05)
    began, first, memory = time.perf_counter(), left, [_megabytes(pid)]
    while left:
        time.sleep(0.2)
        memory.append(_megabytes(pid))
        left = _left(client)
    return first / (time.perf_counter() - began), memory


def _left(client: redis.Redis) -> int | None:
    try:
        (group,) = client.xinfo_groups(KEYS.events)
    except (redis.ResponseError, ValueError):
        return None
    return int(group["lag"] or 0) + int(group["pending"])


def _megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _late(client: redis.Redis) -> list[float]:
    """Seconds from an event's XADD to its handler, sorted."""
    warm = RATE * 2
    count = warm + RATE * SECONDS
    began = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        _add(client, number)
    while client.llen("late") < count:
        time.sleep(0.05)
    return sorted(map(float, client.lrange("late", warm, -1)))
