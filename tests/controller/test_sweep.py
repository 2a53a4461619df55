"""One sweep: what it asks for, what it publishes, and what it leaves to others."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobcast.event import Event, event_id
from jobcast.jobs.model import JOB_NAME_LABEL
from jobcast.keys import Keys
from jobcast.kube import Forbidden
from jobcast.kube.api import Api
from jobcast.ledger.ledger import Ledger, Outgoing, Step
from jobcast.ledger.trimming import Trimming
from jobcast.logs.index import LogIndex
from jobcast.logstore.base import LogPlace
from jobcast.reconcile import sweep as sweeping
from jobcast.reconcile.sweep import sweep_once
from jobcast.redis.batcher import LedgerError
from jobcast.redis.connection import connect
from jobcast.redis.pipeline import Pipeline
from jobcast.service.settings import CoreSettings
from tests.conftest import eventually
from tests.controller.world import Obj, World, make_job

GOLDEN = Path(__file__).parents[1] / "golden" / "completed.json"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path is given no time, unless a test gives it some."""
    monkeypatch.setattr(sweeping, "FAST_PATH_SECONDS", 0.0)


def settings_of(world: World, **more: Any) -> CoreSettings:
    given = {"redis_url": world.redis_url, "namespaces": (world.namespace,), "key_prefix": world.prefix}
    return CoreSettings(**{**given, "log_wait_seconds": 0, **more})  # type: ignore[arg-type]


async def sweep(world: World, **more: Any) -> list[str]:
    """One round; the statuses of what it published."""
    published: list[Event] = []
    count = await sweep_once(settings_of(world, **more), published=published.append)
    assert count == len(published)
    return [event.status for event in published]


def managed(name: str) -> dict[str, Any]:
    """A Job that no controller runs: the test writes its status."""
    return make_job(name, managedBy="tests.example/nobody")


RUNNING = {"status": {"startTime": "2026-11-20T10:00:00Z", "active": 1, "ready": 1}}
COMPLETE = {
    "status": {
        "active": 0,
        "ready": 0,
        "completionTime": "2026-11-20T10:01:00Z",
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": "2026-11-20T10:01:00Z"}
            for kind in ("SuccessCriteriaMet", "Complete")
        ],
    }
}


def path_of(world: World) -> str:
    return world.jobs().removeprefix(world.cluster.url)


async def list_of(world: World) -> bytes:
    """What the API server shows now."""
    async with world.http.get(world.jobs(), params={"labelSelector": "app=evaluation"}) as reply:
        return await reply.read()


async def test_it_asks_for_one_list_of_jobs_in_pages_and_for_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await world.create(managed(f"j{number}"))
        await world.patch(f"j{number}", RUNNING, "status")
    assert await sweep(world) == ["running"] * 5
    monkeypatch.setitem(Api.pages.__kwdefaults__, "limit", 2)
    world.wiretap.requests.clear()
    assert await sweep(world) == []
    pages = world.wiretap.requests
    assert [(page.verb, page.path) for page in pages] == [("list", path_of(world))] * 3
    assert {page.query.get("resourceVersion", "") for page in pages} == {""}, (
        "consistent, and from the cache since 1.31"
    )
    assert ["continue" in page.query for page in pages] == [False, True, True]


async def test_each_namespace_has_its_list_and_all_of_them_have_one(world: World) -> None:
    other = f"{world.namespace}-b"
    await world.create_namespace(other)
    await sweep(world, namespaces=(world.namespace, other))
    assert [request.path for request in world.wiretap.requests] == [
        path_of(world),
        f"/apis/batch/v1/namespaces/{other}/jobs",
    ]
    world.wiretap.requests.clear()
    await sweep(world, namespaces=("*",))
    assert [request.path for request in world.wiretap.requests] == ["/apis/batch/v1/jobs"]


async def test_what_was_published_is_asked_for_in_few_round_trips(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        await world.create(managed(f"j{number}"))
    await sweep(world)
    exchanges: list[int] = []
    exchange = Pipeline.exchange

    async def counted(pipe: Pipeline, commands: Any) -> Any:
        exchanges.append(len(commands))
        return await exchange(pipe, commands)

    monkeypatch.setattr(Pipeline, "exchange", counted)
    await sweep(world)
    assert sum(exchanges) >= 200
    assert len(exchanges) < 20


async def test_what_the_controller_publishes_a_moment_later_was_not_missed_and_is_not_looked_into(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.run("slow", "echo out")
    await eventually(lambda: world.has_ended("slow"))

    async def fast_path(seconds: float, sleep: Callable[..., Any] = asyncio.sleep) -> None:
        if seconds == 7.0:
            monkeypatch.setattr(sweeping, "FAST_PATH_SECONDS", 0.0)
            assert await sweep(world, log_wait_seconds=10) == ["running", "completed"]
            world.wiretap.requests.clear()
        await sleep(min(seconds, 0.01))

    monkeypatch.setattr(sweeping, "FAST_PATH_SECONDS", 7.0)
    monkeypatch.setattr(asyncio, "sleep", fast_path)
    assert await sweep(world, log_wait_seconds=10) == []
    assert world.wiretap.requests == []


@pytest.mark.must_survive(9)
async def test_a_list_that_is_stale_cancels_nothing_and_takes_nothing_back(world: World) -> None:
    empty = await list_of(world)
    await world.create(managed("a"))
    await world.patch("a", RUNNING, "status")
    running = await list_of(world)
    assert await sweep(world) == ["running"]
    world.wiretap.stale[path_of(world)] = empty
    assert await sweep(world) == [], "it is not in the list, and was published after it"
    world.wiretap.stale.clear()
    await world.patch("a", COMPLETE, "status")
    world.wiretap.stale[path_of(world)] = running
    assert await sweep(world) == []
    world.wiretap.stale.clear()
    assert await sweep(world) == ["completed"]
    world.wiretap.stale[path_of(world)] = running
    assert await sweep(world) == [], "it has its end"
    await world.delete("a")
    assert await sweep(world) == []
    assert await world.statuses("a") == ["running", "completed"]


@pytest.mark.must_survive(9)
async def test_a_list_that_lacks_a_job_which_exists_cancels_nothing(world: World) -> None:
    empty = (await list_of(world)).replace(b'"resourceVersion":"', b'"resourceVersion":"9')
    await world.create(managed("a"))
    await world.patch("a", RUNNING, "status")
    await sweep(world)
    world.wiretap.stale[path_of(world)] = empty  # as if of much later
    world.wiretap.requests.clear()
    assert await sweep(world) == []
    assert world.wiretap.of("get", name="/a"), "the API server was asked for it by name, which etcd answers"
    assert await world.statuses("a") == ["running"]


@pytest.mark.must_survive(9)
async def test_a_vanished_job_is_cancelled_unless_a_replica_that_saw_its_end_publishes_it_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for name in ("gone", "ended"):
        made[name] = await world.create(managed(name))
        await world.patch(name, RUNNING, "status")
    assert await sweep(world) == ["running"] * 2
    for name in made:
        await world.delete(name)

    async def controller(seconds: float, sleep: Callable[..., Any] = asyncio.sleep) -> None:
        if seconds > 90:  # so long a log may take
            async with ledger_of(world) as ledger:
                await ledger.step(ending(made["ended"]))
        await sleep(min(seconds, 0.01))

    monkeypatch.setattr(asyncio, "sleep", controller)
    assert await sweep(world, log_wait_seconds=100) == ["cancelled"]
    assert [event["job"]["name"] for event in await world.published() if event["status"] == "cancelled"] == ["gone"]
    assert await world.redis.zcard(Keys(world.prefix).open) == 0


async def test_a_job_created_after_the_list_costs_no_request(world: World) -> None:
    empty = await list_of(world)
    await world.create(managed("new"))
    await sweep(world)
    world.wiretap.stale[path_of(world)] = empty
    world.wiretap.requests.clear()
    await sweep(world)
    assert [request.verb for request in world.wiretap.requests] == ["list"]


@pytest.mark.parametrize("few", [20, 0])
async def test_the_pods_of_few_jobs_are_asked_for_one_by_one_and_of_many_together(
    world: World, monkeypatch: pytest.MonkeyPatch, few
) -> None:
    monkeypatch.setattr(sweeping, "FEW", few)
    for name in ("a", "b"):
        await world.run(name, "echo out")
        await eventually(lambda name=name: world.has_ended(name))
    assert sorted(await sweep(world, log_wait_seconds=10)) == ["completed", "completed", "running", "running"]
    asked = [request.query["labelSelector"] for request in world.wiretap.of("list", "/pods")]
    assert sorted(asked) == ([f"{JOB_NAME_LABEL}=a", f"{JOB_NAME_LABEL}=b"] if few else [JOB_NAME_LABEL])
    assert [(await world.until(name, "completed"))["output"] for name in ("a", "b")] == ["out\n"] * 2


async def test_the_error_of_one_job_does_not_affect_the_others_and_what_they_published_is_counted(world: World) -> None:
    made = {}
    for name in ("bad", "good"):
        made[name] = await world.create(managed(name))
        await world.patch(name, RUNNING, "status")
    await world.redis.set(Keys(world.prefix).job(made["bad"]["metadata"]["uid"]), "a stranger's")
    published: list[Event] = []
    with pytest.raises(LedgerError, match="WRONGTYPE"):
        await sweep_once(settings_of(world), published=published.append)
    assert [(event.job.name, event.status) for event in published] == [("good", "running")]


@pytest.mark.parametrize("stream", ["events", "replays", "dead"])
async def test_a_stream_that_cannot_be_trimmed_is_reported_and_keeps_nothing_from_being_published(
    world: World, stream
) -> None:
    await world.create(managed("a"))
    await world.patch("a", RUNNING, "status")
    key = getattr(Keys(world.prefix), stream)
    await world.redis.set(key, "a stranger's")
    trimming = Trimming(max_age=60, max_length=1000, died=lambda _: None, revived=lambda _: None)
    published: list[Event] = []
    with pytest.raises(LedgerError, match="WRONGTYPE"):
        await sweep_once(settings_of(world), trimming, published=published.append)
    assert [event.status for event in published] == ([] if stream == "events" else ["running"])
    if stream == "events":
        await world.redis.delete(key)


async def test_once_in_a_while_it_repairs_the_index_and_empties_the_folder_of_logs_though_the_cluster_says_no(
    world: World, tmp_path: Path
) -> None:
    log = tmp_path / "evals" / "job" / str(uuid.uuid4()) / "pod" / "main.0.log"
    log.parent.mkdir(parents=True)
    for number in range(2):
        log.write_bytes(b"log")
        os.utime(log, (1, 1))
        await world.redis.hset(Keys(world.prefix).evaluation("lost"), "created", "1795168790")
        await world.redis.delete(Keys(world.prefix).index)
        world.fault("status", code=403)
        with pytest.raises(Forbidden):
            await sweep(world, log_store=f"file://{tmp_path}")
        if number == 0:
            await eventually(lambda: not log.parent.exists())
            assert await world.redis.zcard(Keys(world.prefix).index) == 1
            log.parent.mkdir(parents=True)
    assert await world.redis.zcard(Keys(world.prefix).index) == 0, "not again at once"
    assert log.exists()


async def test_logs_pending_in_other_namespaces_do_not_stand_before_ours(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "UPLOADS_PER_SWEEP", 1)
    async with ledger_of(world) as ledger:
        book = LogIndex(ledger, 60)
        for number in range(20):
            await book.add_pending_upload(LogPlace("theirs", f"j{number}", f"u{number}", "pod", "main"), "e", "pod-uid")
        await book.add_pending_upload(LogPlace(world.namespace, "ours", "u", "pod", "main"), "e", "pod-uid")
        await sweep(world, log_store=f"file://{tmp_path}")
        left = await book.pending_uploads()
    assert {owed.place.namespace for owed in left} == {"theirs"}, "ours is settled: its Pod is gone"


def ending(job: Obj) -> Step:
    meta = job["metadata"]
    name = event_id(meta["uid"], "completed", "")
    of = {field: meta[field] for field in ("namespace", "name", "uid")}
    published = json.loads(GOLDEN.read_bytes()) | {"id": name, "job": of}
    event = Outgoing(name, "completed", json.dumps(published).encode())
    return Step(
        uid=meta["uid"],
        version=10**9,
        created=1.0,
        eval_id=meta["name"],
        namespace=meta["namespace"],
        name=meta["name"],
        status="completed",
        outgoing=(event,),
    )


@asynccontextmanager
async def ledger_of(world: World) -> AsyncIterator[Ledger]:
    client = connect(world.redis_url, prefix=world.prefix)
    async with Ledger(client, Keys(world.prefix)) as ledger:
        yield ledger
    await client.aclose()
