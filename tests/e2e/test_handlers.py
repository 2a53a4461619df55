"""What handlers of several workers see of what really happens, while the workers are killed."""

import asyncio
import contextlib
import random
import sqlite3
from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.api import Api, Obj, evaluation
from tests.conftest import eventually
from tests.parts import TERMINAL, Part, Parts, Told

JOBS = 500
AT_ONCE = 16
"""Jobs that run at a time: other tests use the same node."""
WITH_PODS = 5
"""One in so many runs on the node; the others' status is written as their manager would, so that the node is no bottleneck."""
WORKERS = 3
PAUSE_SECONDS = (2.0, 5.0)
"""Between a worker's readiness and the next one's death."""
NOTHING_LEFT = {"uncountedTerminatedPods": {}}
HANDLERS = """
import os, random, sqlite3, time
from jobcast import on

@on(retry_backoff=0.1)
def note(event):
    with sqlite3.connect(os.environ["TABLE"], timeout=60) as table:
        table.execute("insert into seen (eval, status, event) values (?, ?, ?)", (event.eval_id, event.status, event.id))
        table.execute("insert or ignore into effects values (?)", (event.id,))
    table.close()
    time.sleep(random.uniform(0, 0.2))
    if random.random() < 0.02:
        raise RuntimeError("now and then")
"""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def started() -> Obj:
    return {"startTime": now(), "active": 1, "ready": 1}


def completed() -> Obj:
    ends = [condition("SuccessCriteriaMet", "CompletionsReached"), condition("Complete", "CompletionsReached")]
    return {"active": 0, "ready": 0, "succeeded": 1, "completionTime": now(), "conditions": ends, **NOTHING_LEFT}


def failed() -> Obj:
    ends = [condition("FailureTarget", "BackoffLimitExceeded"), condition("Failed", "BackoffLimitExceeded")]
    return {"active": 0, "ready": 0, "failed": 1, "conditions": ends, **NOTHING_LEFT}


def condition(kind: str, reason: str) -> Obj:
    return {"type": kind, "status": "True", "reason": reason, "lastProbeTime": now(), "lastTransitionTime": now()}


@pytest.mark.must_survive(27, 30)
async def test_three_workers_of_which_one_is_always_dying_handle_every_event_in_order(
    cluster: Api, parts: Parts, published: Told, tmp_path: Path
) -> None:
    table = sqlite3.connect(tmp_path / "table")
    table.executescript(
        "pragma journal_mode=wal;"
        "create table seen (n integer primary key autoincrement, eval text, status text, event text);"
        "create table effects (event text primary key);"
    )
    (tmp_path / "noting.py").write_text(HANDLERS)
    parts.environment |= {"HANDLERS": "noting", "PYTHONPATH": str(tmp_path), "TABLE": str(tmp_path / "table")}
    parts.environment |= {"TAKEOVER_SECONDS": "3", "SWEEP_SECONDS": "5"}
    await parts.controller()

    async def start() -> Part:
        return await parts.worker("-P", "prefork", "-c", "4")

    workers = [await start() for _ in range(WORKERS)]
    deaths = 0

    async def kill_one_after_the_other() -> None:
        nonlocal deaths
        while True:
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            workers.pop(0).kill()
            deaths += 1
            workers.append(await start())

    slots = asyncio.Semaphore(AT_ONCE)

    async def evaluate(number: int) -> None:
        async with slots:
            name, fails = f"eval-{number}", number % 4 == 3
            if number % WITH_PODS == 0:
                await cluster.create(evaluation(name, f"exit {int(fails)}"))
                await cluster.ended(name)
                return
            await cluster.create(evaluation(name, managedBy="jobcast.example/test"))
            for change in (started(), failed() if fails else completed()):
                await asyncio.sleep(random.uniform(0, 1))
                await cluster.patch(f"{cluster.jobs}/{name}/status", {"status": change})

    killing = asyncio.create_task(kill_one_after_the_other())
    await asyncio.gather(*(evaluate(number) for number in range(JOBS)))

    async def is_told() -> bool:
        return sum(event["status"] in TERMINAL for event in await published.stream()) == JOBS

    await eventually(is_told, 120, 0.5)
    killing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await killing
    wanted = {event["id"] for event in await published.stream()}
    assert len(wanted) == 2 * JOBS

    def effects() -> set[str]:
        return {event for (event,) in table.execute("select event from effects")}

    await eventually(lambda: effects() == wanted, 120, 0.5)
    assert deaths > WORKERS
    seen = defaultdict(list)
    for name, status in table.execute("select eval, status from seen order by n"):
        seen[name].append(status)
    assert len(seen) == JOBS
    # Again is possible, back is not.
    wrong = {
        name: statuses
        for name, statuses in seen.items()
        if statuses[0] != "running"
        or any(before in TERMINAL and after == "running" for before, after in pairwise(statuses))
    }
    assert wrong == {}
    dead = await published.dead_letters()
    assert dead == [], "a kill is no reason to give up"
    table.close()
