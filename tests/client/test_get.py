"""get(): how an evaluation stands, and what was told of it last."""

import asyncio

import msgspec
import pytest

from jobcast.client import RecordedJob, Refused, Unavailable
from jobcast.event import Attempt
from jobcast.wire import encode
from testbed.ports import free_port
from testbed.valkey import ValkeyServer
from tests.client.conftest import World
from tests.client.keeping import LogKeeper, unkept
from tests.client.subscribers import Threaded, subscriber
from tests.client.telling import BIRTH, event


async def test_nothing_is_known_of_an_evaluation_that_never_was(world: World) -> None:
    assert await world.join().get("42") is None


async def test_a_job_of_which_nothing_is_published_is_pending(world: World) -> None:
    job = event("running").job
    await world.teller.see("42", job)
    record = await world.join().get("42")
    assert (record.status, record.event, record.raw, record.is_ended) == ("pending", None, None, False)
    assert (record.namespace, record.name, record.uid) == (job.namespace, job.name, job.uid)


@pytest.mark.parametrize("status", ["running", "suspended", "completed", "failed", "cancelled"])
async def test_the_record_holds_the_latest_event(world: World, status: str) -> None:
    await world.teller.tell(event(status, "é:42"))
    record = await world.join().get("é:42")
    assert record.eval_id == "é:42"
    assert record.status == status
    assert record.event == event(status, "é:42")
    assert record.raw == encode(event(status, "é:42"))
    assert record.is_ended == (status in ("completed", "failed", "cancelled"))


async def test_the_newest_job_of_an_evaluation_is_its_record(world: World) -> None:
    await world.teller.tell(event("failed", uid="first"))
    await world.teller.tell(event("running", uid="second"), created=BIRTH + 1)
    record = await world.join().get("42")
    assert (record.uid, record.status) == ("second", "running")


async def test_an_event_that_this_version_cannot_read_still_has_its_status(world: World) -> None:
    later = b'{"status":"archived"}'
    await world.redis.hset(world.keys.evaluation("42"), mapping={"status": "archived", "uid": "u", "event": later})
    record = await world.join().get("42")
    assert (record.status, record.event, record.raw) == ("archived", None, later)


async def test_it_asks_again_when_its_connection_was_cut_while_idle(own_world: World, own_valkey: ValkeyServer) -> None:
    jobcast = own_world.join()
    assert await jobcast.get("42") is None
    own_valkey.stop(kill=True)
    own_valkey.start()
    assert await jobcast.get("42") is None


async def test_a_redis_that_is_not_there_is_unavailable_within_seconds(kind: str, prefix: str) -> None:
    jobcast = subscriber(kind, f"redis://:s3cret@127.0.0.1:{free_port()}/0", prefix)
    async with asyncio.timeout(60):
        for ask in (jobcast.get("42"), jobcast.ping()):
            with pytest.raises(Unavailable) as caught:
                await ask
            assert "s3cret" not in repr(caught.value)
    await jobcast.aclose()


@pytest.mark.must_survive(27)
async def test_a_wrong_password_is_refused_without_being_shown(
    own_world: World, own_valkey: ValkeyServer, prefix: str
) -> None:
    await own_world.redis.config_set("requirepass", "right")
    url = own_valkey.url.replace("redis://", "redis://:wr0ng@")
    jobcast = subscriber(own_world.kind, url, prefix)
    with pytest.raises(Refused) as caught:
        await jobcast.get("42")
    assert "wr0ng" not in repr(caught.value)
    with pytest.raises(Refused):
        await jobcast.wait("42", 5)
    with pytest.raises(Refused):
        async with jobcast.events():
            pass
    await jobcast.aclose()
    await own_world.redis.config_set("requirepass", "")


async def test_ping_says_that_redis_is_there(world: World) -> None:
    assert await world.join().ping() is None


@pytest.mark.parametrize(
    "url",
    [
        "http://:s3cret@localhost",
        "redis://user:s3cret/x@localhost:6379/0",
        "redis://:s3cret@localhost:port/0",
        "redis://:s3cret@localhost:6379/zero",
        "redis://:s3cret@[::1",
        "redis://:s3cret@localhost/0?nonsense=1",
        "redis://:s3cret@localhost/0?socket_timeout=soon",
        "s3cret@localhost",
    ],
)
async def test_a_url_that_makes_no_sense_is_refused_at_once_without_its_password(kind: str, url: str) -> None:
    with pytest.raises(ValueError) as caught:
        subscriber(kind, url, "evaluation")
    assert "s3cret" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("prefix", ["", "a b", "{x}", "x" * 65])
async def test_a_prefix_that_makes_no_sense_is_refused_at_once(kind: str, prefix: str) -> None:
    with pytest.raises(ValueError, match="is not a prefix"):
        subscriber(kind, "redis://localhost", prefix)


async def test_address_and_prefix_come_from_the_environment(
    valkey: ValkeyServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobcast.client import AsyncClient, Client

    monkeypatch.setenv("REDIS_URL", valkey.url)
    monkeypatch.setenv("KEY_PREFIX", "elsewhere")
    await world.redis.ping()
    jobcast = Threaded(Client()) if world.kind == "plain" else AsyncClient()
    assert await jobcast.get("42") is None
    assert jobcast is not None
    await jobcast.aclose()


async def test_an_open_job_has_its_life_in_the_record(world: World) -> None:
    await world.teller.tell(event("running"))
    waiting = {"reason": "ImagePullBackOff", "message": "no such image", "pod": "pod-b"}
    attempts = [Attempt(pod="pod-a", exit_code=1, container="main"), Attempt(pod="pod-b", reason="ImagePullBackOff")]
    await world.redis.hset(
        world.keys.evaluation("42"),
        mapping={
            "waiting": msgspec.json.encode(waiting),
            "started_at": "2026-11-20T10:00:01Z",
            "attempts": msgspec.json.encode(attempts),
            "indexes": b'{"completed":"0-2,5","failed":"3","total":10}',
        },
    )
    record = await world.join().get("42")
    assert msgspec.structs.asdict(record.waiting) == waiting
    assert record.started_at == "2026-11-20T10:00:01Z"
    assert record.attempts == attempts
    assert (record.indexes.completed, record.indexes.failed, record.indexes.total) == ("0-2,5", "3", 10)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_the_attempts_of_an_ended_job_are_those_of_its_event(world: World, status: str) -> None:
    told = [Attempt(pod="pod-a", exit_code=0)]
    await world.teller.tell(event(status, attempts=told))
    await world.redis.hset(world.keys.evaluation("42"), "attempts", msgspec.json.encode([Attempt(pod="pod-b")]))
    assert (await world.join().get("42")).attempts == told


async def test_a_record_of_an_earlier_version_has_nothing_of_its_life_but_its_job(world: World) -> None:
    await world.redis.hset(
        world.keys.evaluation("42"),
        mapping={"status": "running", "uid": "u", "namespace": "evals", "name": "eval-42", "created": "1795168800.5"},
    )
    record = await world.join().get("42")
    assert (record.waiting, record.started_at, record.indexes) == (None, None, None)
    assert (record.attempts, record.logs) == ([], [])
    job = RecordedJob(uid="u", namespace="evals", name="eval-42", created=1795168800.5, status="running")
    assert record.jobs == [job]


async def test_all_jobs_of_an_evaluation_are_in_its_record_the_newest_last(world: World) -> None:
    await world.teller.tell(event("running", uid="m-second"), created=BIRTH + 1)
    await world.teller.tell(event("failed", uid="z-first"))
    await world.teller.tell(event("running", uid="a-third"), created=BIRTH + 2)
    record = await world.join().get("42")
    assert [(job.uid, job.created, job.status) for job in record.jobs] == [
        ("z-first", BIRTH, "failed"),
        ("m-second", BIRTH + 1, "running"),
        ("a-third", BIRTH + 2, "running"),
    ]
    assert {(job.namespace, job.name) for job in record.jobs} == {("evals", "eval-42")}


async def test_the_logs_that_are_kept_are_listed_by_attempt_the_deciding_container_and_its_latest_first(
    world: World,
) -> None:
    told = event(
        "failed",
        attempts=[Attempt(pod="z-first", container="main"), Attempt(pod="a-last", container="fetch", role="init")],
    )
    await world.teller.tell(told)
    keeper = LogKeeper(world.teller.ledger, told.job)
    places = [("z-first", "main", 2), ("z-first", "main", 0), ("z-first", "agent", 0), ("a-last", "fetch", 0)]
    places += [("a-last", "ab", 0), ("never-told", "main", 0)]
    for pod, container, instance in reversed(places):
        await keeper.keep(b"hello", pod, container, instance)
    logs = (await world.join().get("42")).logs
    assert [(log.source, log.instance) for log in logs] == [(f"{pod}/{c}", i) for pod, c, i in places]
    assert all(log.state == "complete" and log.ref for log in logs)


async def test_fields_that_cannot_be_read_are_left_out(world: World) -> None:
    told = event("running")
    await world.teller.tell(told)
    deep = b"[" * 100_000
    good = msgspec.json.encode(unkept("pod-gone"))
    odd = {
        "waiting": b'{"reason":1}',
        "started_at": b"yesterday",
        "attempts": deep,
        "indexes": b"\xff",
        "log:pod/main/0": b"{",
        "log:pod/main": good,
        "log:/main/0": good,
        "log:pod//0": good,
        "log:pod/main/-1": good,
        "log:pod/main/x": good,
        "log:pod/main/\u00b2": good,
        "log:pod/main/" + "9" * 5000: good,
        "job:": f"{BIRTH} running evals/x",
        "job:a": b"",
        "job:b": b"soon running evals/x",
        "job:c": b"nan running evals/x",
        "job:d": f"{BIRTH} running x",
        b"\xff\xfe": b"\xff",
    }
    await world.redis.hset(world.keys.evaluation("42"), mapping=odd)
    record = await world.join().get("42")
    assert (record.status, record.event) == ("running", told)
    assert (record.waiting, record.started_at, record.indexes) == (None, None, None)
    assert (record.attempts, record.logs) == ([], [])
    assert [job.uid for job in record.jobs] == [told.job.uid]
