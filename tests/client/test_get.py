"""get(): what was told of an evaluation last."""

import asyncio

import pytest

from jobcast.client import Refused, Unavailable
from jobcast.wire import encode
from tests.client.conftest import World
from tests.client.subscribers import Threaded, subscriber
from tests.client.telling import BIRTH, event
from tests.conftest import ValkeyServer, free_port


async def test_nothing_is_known_of_an_evaluation_that_never_was(world: World) -> None:
    assert await world.join().get("42") is None


async def test_a_job_of_which_nothing_is_told_is_pending(world: World) -> None:
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
    async with asyncio.timeout(10):
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
