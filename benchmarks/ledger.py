"""Ledger steps per second on a real Valkey, by as many reconciles at a time as a controller has."""

import asyncio
import time

import redis.asyncio

from benchmarks.objects import job
from controller.workers import WORKERS
from jobcast.jobs.decode import Reading, WireJob
from jobcast.jobs.facts import EventBuilder, EventContext, facts_due
from jobcast.jobs.model import Job
from jobcast.jobs.observation import Observation
from jobcast.jobs.status import derive_status
from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger, Outgoing, Step
from jobcast.redis.connection import connect
from jobcast.wire import encode
from testbed.valkey import valkey

JOBS = 20_000


def _steps() -> list[Step]:
    import msgspec

    reading = Reading()
    steps = []
    for number in range(JOBS):
        found: Job = reading.job(msgspec.convert(job(number), WireJob))
        seen = Observation(found)
        (fact,) = facts_due(found, derive_status(seen))
        event = EventBuilder(seen, EventContext(), now=lambda: "").event(fact)
        telling = Outgoing(fact.id, fact.status, encode(event))
        steps.append(
            Step(
                uid=found.uid,
                version=found.version,
                created=0.0,
                eval_id=found.eval_id,
                namespace=found.namespace,
                name=found.name,
                status="running",
                outgoing=(telling,),
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
            await client.publish("evaluation:running", step.outgoing[0].body)
        return len(steps) / (time.perf_counter() - started)


def rows() -> list[tuple[str, str, str]]:
    steps = _steps()
    with valkey() as server:
        reference = asyncio.run(_publish_one_by_one(server.url, steps[:4000]))
        speed = asyncio.run(_together(server.url, steps))
    ratio = f"{speed / reference:.1f} × one awaited PUBLISH each ({reference:,.0f}/s)"
    return [("ledger steps (decide, record, XADD, PUBLISH)", f"{speed:,.0f}/s", ratio)]
