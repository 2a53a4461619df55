"""The cost of logs: memory and time of a long one; the delay of events with many logs at once, and with logs read ahead."""

import asyncio
import hashlib
import multiprocessing
import os
import re
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import redis.asyncio

from benchmarks.cluster import NAMESPACE, Played, Scene, Stage, log_block, playing
from benchmarks.objects import pod
from benchmarks.running import memory, running
from benchmarks.watch import kubeconfig
from jobcast.jobs.facts import LogRead
from jobcast.kube import Access, Api
from jobcast.logs.proof import Wanted
from jobcast.logs.reader import LogReads
from jobcast.logstore import open_log_store
from jobcast.logstore.base import LogPlace
from testbed.valkey import valkey

MB = 1_000_000
LONG = Scene(jobs=1, seconds=0, lead=0, log_bytes=MB, log_repeats=100)
MANY = Scene(jobs=500, seconds=5, lead=0, log_bytes=MB)
AHEAD = Scene(jobs=500, seconds=10, lead=1, log_bytes=4096)
LIMIT_SECONDS = 60
"""A row that takes longer has failed."""
_COMPLETE = re.compile(rb'"uid":"([0-9a-f-]{36})".*"type":"Complete"')


class Long(NamedTuple):
    grown: int
    """The peak of resident memory, in bytes, above that before the read."""
    seconds: float
    sha256: str


def long_log() -> tuple[str, str, str]:
    block = log_block(LONG.log_bytes)
    expected = hashlib.sha256()
    for _ in range(LONG.log_repeats):
        expected.update(block)
    with tempfile.TemporaryDirectory() as folder, playing(LONG) as stage:
        ours, theirs = multiprocessing.Pipe()
        config = kubeconfig(Path(folder), stage.url)
        # A process of its own: earlier rows do not count.
        process = multiprocessing.get_context("spawn").Process(target=_read, args=(config, folder, theirs))
        process.start()
        theirs.close()
        read: Long = ours.recv()
        process.join()
        (stored,) = Path(folder).rglob("evaluation-0*/*.log")
        with stored.open("rb") as file:
            digests = {hashlib.file_digest(file, "sha256").hexdigest(), expected.hexdigest(), read.sha256}
    size = LONG.log_bytes * LONG.log_repeats
    return (
        "a log of 100 MB into a folder",
        f"{size / 1e6 / read.seconds:,.0f} MB/s",
        f"memory +{read.grown / 1e6:.1f} MB; sha256 {'equal' if len(digests) == 1 else 'DIFFERS'}",
    )


def _read(config: str, folder: str, line: Connection) -> None:
    os.environ["KUBECONFIG"] = config
    line.send(asyncio.run(_read_twice(folder)))


async def _read_twice(folder: str) -> Long:
    """A short log first, for imports and the first allocations."""
    ended: asyncio.Queue[str] = asyncio.Queue()
    store = open_log_store(f"file://{folder}/logs", put=_never, limit=0)
    assert store is not None

    async def read(name: str) -> LogRead:
        wanted = Wanted(LogPlace(NAMESPACE, name, "uid", name, "evaluation"), name, "42")
        while (found := logs.want(wanted)) is None:
            await ended.get()
        return found

    async with (
        Api(await Access.find()) as api,
        LogReads(
            api, excerpt_bytes=65_536, concurrency=16, done=ended.put_nowait, store=store, store_seconds=None
        ) as logs,
    ):
        await read("warm-up")
        before = memory("self", "VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        started = time.perf_counter()
        found = await read(pod(0)["metadata"]["name"])
        seconds = time.perf_counter() - started
        grown = memory("self", "VmHWM") - before
    await store.aclose()
    return Long(grown, seconds, found.log.sha256 or "")


async def _never(*_: Any) -> Any:
    raise AssertionError("this store is a folder")


class Received(NamedTuple):
    """Times by the Job's uid, on the clock of Played."""

    published: dict[str, float]
    """When a subscriber got the event."""
    seen: dict[str, float]
    """When a bare reader of the same watch got the condition."""
    lost: int
    """Events without the whole log."""


class _Job(msgspec.Struct):
    uid: str


class _Log(msgspec.Struct, frozen=True):
    state: str = ""


class _Event(msgspec.Struct):
    status: str
    job: _Job
    log: _Log = _Log()


def play(scene: Scene, **settings: str) -> tuple[Played, Received]:
    """A controller in a process of its own publishes all events."""
    with tempfile.TemporaryDirectory() as folder, valkey() as server, playing(scene) as stage:
        config = kubeconfig(Path(folder), stage.url)
        with running(folder, KUBECONFIG=config, REDIS_URL=server.url, **settings):
            received = asyncio.run(_receive(server.url, scene, stage))
            return stage.played(), received


async def _receive(url: str, scene: Scene, stage: Stage) -> Received:
    received, decoder = Received({}, {}, 0), msgspec.json.Decoder(_Event)
    running: set[str] = set()
    lost = 0
    async with asyncio.timeout(LIMIT_SECONDS), redis.asyncio.Redis.from_url(url) as client, client.pubsub() as pubsub:
        await pubsub.psubscribe("evaluation:*")
        reading: asyncio.Task[None] | None = None
        try:
            async for message in pubsub.listen():
                now = time.monotonic()
                if message["type"] != "pmessage" or message["channel"].endswith(b":progress"):
                    continue
                event = decoder.decode(message["data"])
                if event.status == "completed":
                    received.published[event.job.uid] = now
                    lost += event.log.state != "complete"
                    if len(received.published) == scene.jobs:
                        break
                elif len(running) < scene.jobs:
                    running.add(event.job.uid)
                    if len(running) == scene.jobs:
                        is_watching = asyncio.Event()
                        reading = asyncio.create_task(_read_barely(stage.url, received.seen, is_watching))
                        await is_watching.wait()
                        stage.go()
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    return received._replace(lost=lost)


async def _read_barely(url: str, seen: dict[str, float], is_watching: asyncio.Event) -> None:
    """The time that the API server itself takes: a loop that looks for one word in each line."""
    path = f"{url}/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout, read_bufsize=256 * 1024) as session,
        session.get(path, params={"watch": "1"}) as response,
    ):
        is_watching.set()
        rest = b""
        async for chunk in response.content.iter_any():
            now = time.monotonic()
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if found := _COMPLETE.search(line):
                    seen[found[1].decode()] = now


def many_logs() -> tuple[str, str, str]:
    played, received = play(MANY)
    late = [
        published - max(played.conditions[uid], played.logs.get(uid, 0.0))
        for uid, published in received.published.items()
    ]
    return (
        "500 Jobs that end within 5 s, with 1 MB of log each",
        f"p99 {_percentile(late, 99):.2f} s",
        f"from condition or end of log to event: p50 {_percentile(late, 50):.2f} s, max {max(late):.2f} s;"
        f" {received.lost} without their log",
    )


def log_read_ahead() -> tuple[str, str, str]:
    played, received = play(AHEAD)
    beyond = [(published - received.seen[uid]) * 1000 for uid, published in received.published.items()]
    own = [(seen - played.conditions[uid]) * 1000 for uid, seen in received.seen.items()]
    return (
        "from condition to event, its log read ahead",
        f"p99 {_percentile(beyond, 99):.1f} ms",
        f"beyond a bare watch reader (itself p99 {_percentile(own, 99):.1f} ms): p50 {_percentile(beyond, 50):.1f} ms,"
        f" max {max(beyond):.1f} ms",
    )


def _percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def rows() -> list[tuple[str, str, str]]:
    return [long_log(), many_logs(), log_read_ahead()]
