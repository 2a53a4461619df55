"""log(): the exact bytes of a log, or why they cannot be had."""

import asyncio
import hashlib
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import redis.asyncio
from msgspec.structs import replace

from jobcast.client import AsyncClient, Client, Damaged, NotKept, Refused, Unavailable
from jobcast.event import Attempt, JobRef
from testbed.ports import free_port
from testbed.valkey import ValkeyServer
from tests.client.conftest import World
from tests.client.keeping import LogKeeper, unkept
from tests.client.subscribers import Threaded, subscriber
from tests.client.telling import BIRTH, event

EXACT = b'{"json": 1}\r\n\x00\xff\xfe\x1b[31mnot UTF-8\x1b[0m\n\nno end of line'
JOB = event("failed").job
FORMER = JobRef("evals", "eval-42-former", "former")


def keeper(world: World, job: JobRef = JOB, store: str = "redis") -> LogKeeper:
    return LogKeeper(world.teller.ledger, job, store=store)


async def why_not(world: World, **which: Any) -> str:
    with pytest.raises(NotKept) as caught:
        await world.join().log("42", **which).read()
    return str(caught.value)


@pytest.fixture(params=["redis", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "redis" if request.param == "redis" else f"file://{tmp_path}"


@pytest.mark.must_survive(17)
async def test_the_bytes_of_a_log_are_exactly_those_that_were_read(world: World, store: str) -> None:
    await world.teller.tell(event("running"))
    log = await keeper(world, store=store).keep(EXACT)
    await world.teller.tell(event("failed", log=log))
    assert await world.join().log("42").read() == EXACT


async def test_a_long_log_comes_in_chunks(world: World, store: str) -> None:
    data = random.Random(1).randbytes(3_500_000)
    await world.teller.tell(event("running"))
    log = await keeper(world, store=store).keep(data)
    await world.teller.tell(event("failed", log=log))
    feed = world.join().log("42")
    chunks = [chunk async for chunk in feed]
    assert b"".join(chunks) == data
    assert len(chunks) >= 3
    assert feed.log == log


async def test_an_empty_log_is_no_bytes(world: World, store: str) -> None:
    await world.teller.tell(event("running"))
    log = await keeper(world, store=store).keep(b"")
    await world.teller.tell(event("failed", log=log))
    assert await world.join().log("42").read() == b""


@pytest.mark.parametrize("reason", [None, "store-unavailable"])
async def test_a_log_that_is_empty_need_not_be_kept(world: World, reason: str | None) -> None:
    """The service does not trouble the store with it."""
    await world.teller.tell(event("failed", log=replace(unkept(reason), bytes=0)))
    assert await world.join().log("42").read() == b""


async def test_it_is_known_which_log_it_is_before_the_first_chunk(world: World) -> None:
    await world.teller.tell(event("running"))
    log = await keeper(world).keep(b"hello")
    await world.teller.tell(event("failed", log=log))
    feed = world.join().log("42")
    assert feed.log is None
    async with feed as chunks:
        assert chunks.log == log
        assert [chunk async for chunk in chunks] == [b"hello"]


async def test_the_log_behind_the_output_is_the_usual_one(world: World) -> None:
    await world.teller.tell(event("running"))
    told = await keeper(world).keep(b"decided", "pod-a", instance=1)
    await keeper(world).keep(b"later", "pod-a", instance=2)
    await keeper(world).keep(b"other", "pod-b")
    attempts = [Attempt(pod="pod-a", container="main", restarts=2), Attempt(pod="pod-b", container="main")]
    await world.teller.tell(event("failed", log=told, attempts=attempts))
    assert await world.join().log("42").read() == b"decided"


async def test_attempts_are_counted_from_1_in_the_order_of_the_record(world: World) -> None:
    await world.teller.tell(event("running"))
    attempts = []
    for pod in ("z", "m", "a"):
        log = await keeper(world).keep(pod.encode(), pod)
        attempts.append(Attempt(pod=pod, container="main", logs=[log]))
    await world.teller.tell(event("failed", log=attempts[1].logs[0], attempts=attempts))
    jobcast = world.join()
    assert [await jobcast.log("42", attempt=n).read() for n in (1, 2, 3)] == [b"z", b"m", b"a"]
    assert await why_not(world, attempt=4) == "evaluation '42' has no attempt 4; there are 3"


async def test_of_an_open_job_the_last_attempt_is_the_usual_one(world: World) -> None:
    await world.teller.tell(event("running"))
    await keeper(world).keep(b"first", "z")
    await keeper(world).keep(b"second", "a")
    attempts = [Attempt(pod="z", container="main"), Attempt(pod="a", container="main")]
    await world.redis.hset(world.keys.evaluation("42"), "attempts", msgspec.json.encode(attempts))
    assert await world.join().log("42").read() == b"second"
    await world.redis.hset(
        world.keys.evaluation("42"), "attempts", msgspec.json.encode([*attempts, Attempt(pod="new", container="m")])
    )
    said = await why_not(world)
    assert said == ("evaluation '42': no log of new/m is known; a log is read after its container has ended")


async def test_a_container_and_an_instance_may_be_named(world: World) -> None:
    await world.teller.tell(event("running"))
    for container, instance in (("main", 0), ("main", 1), ("main", 11), ("agent", 0)):
        await keeper(world).keep(f"{container} {instance}".encode(), "pod-a", container, instance)
    attempts = [Attempt(pod="pod-a", container="main", restarts=11)]
    await world.teller.tell(event("completed", attempts=attempts))
    jobcast = world.join()

    async def read(**which: Any) -> bytes:
        return bytes(await jobcast.log("42", **which).read())

    assert await read() == b"main 11"
    assert await read(container="main") == b"main 11"
    assert await read(instance=1) == b"main 1"
    assert await read(container="agent") == b"agent 0"
    assert await read(attempt=1, container="main", instance=0) == b"main 0"
    assert await why_not(world, instance=2) == (
        "evaluation '42': no instance 2 of pod-a/main is known; there is 0, 1, 11"
    )
    assert await why_not(world, container="wrong") == (
        "evaluation '42': no log of pod-a/wrong is known; there is one of agent, main"
    )


async def test_the_log_of_an_init_container_that_failed_is_that_of_its_attempt(world: World) -> None:
    await world.teller.tell(event("running"))
    await keeper(world).keep(b"no such dataset", "pod-a", "fetch")
    attempts = [Attempt(pod="pod-a", container="fetch", role="init")]
    await world.teller.tell(event("failed", attempts=attempts))
    assert await world.join().log("42").read() == b"no such dataset"


async def test_what_was_filled_in_later_counts_and_not_what_the_event_knew(world: World) -> None:
    told = unkept("store-unavailable")
    await world.teller.tell(event("failed", log=told, attempts=[Attempt(pod="pod-a", container="main", logs=[told])]))
    assert "unreachable" in await why_not(world)
    await keeper(world).keep(b"brought later")
    assert await world.join().log("42").read() == b"brought later"
    assert await world.join().log("42", attempt=1).read() == b"brought later"


async def test_a_log_that_is_noted_in_the_event_alone_is_found(world: World) -> None:
    """The record could not be written, or was written by an earlier version."""
    log = await keeper(world).store(b"hello")
    await world.teller.tell(event("failed", log=log))
    assert await world.join().log("42").read() == b"hello"


async def test_the_logs_of_a_former_job_are_found_by_its_name_and_uid(world: World) -> None:
    await world.teller.tell(replace(event("running"), job=FORMER))
    await keeper(world, FORMER).keep(b"former")
    await world.teller.tell(replace(event("failed"), job=FORMER))
    await world.teller.tell(event("running"), created=BIRTH + 1)
    await keeper(world).keep(b"newest")
    jobcast = world.join()
    for job in ("former", "eval-42-former", "evals/eval-42-former"):
        assert await jobcast.log("42", job=job).read() == b"former"
    for job in (JOB.uid, JOB.name):
        assert await jobcast.log("42", job=job).read() == b"newest"
    assert await why_not(world, job="another") == (
        "evaluation '42' has no Job 'another'; known: eval-42-former, eval-42"
    )
    await world.redis.delete(world.keys.job("former"))
    assert "Job 'former' of evaluation '42' has expired" in await why_not(world, job="former")


async def test_of_former_jobs_of_one_name_the_newest_is_meant(world: World) -> None:
    """A platform may delete a Job and make another of the same name."""
    for number, uid in enumerate(("z", "a")):
        job = JobRef("evals", "eval-42-former", uid)
        await world.teller.tell(replace(event("running"), job=job), created=BIRTH + number)
        await keeper(world, job).keep(uid.encode())
    await world.teller.tell(event("running"), created=BIRTH + 2)
    assert await world.join().log("42", job="eval-42-former").read() == b"a"
    assert await world.join().log("42", job="z").read() == b"z"


async def test_the_job_of_another_evaluation_is_not_this_ones(world: World) -> None:
    await world.teller.tell(event("running", "43", uid="others"), event("running"))
    assert "has no Job 'others'" in await why_not(world, job="others")


async def test_of_a_former_job_of_many_pods_one_has_to_be_chosen(world: World) -> None:
    await world.teller.tell(replace(event("running"), job=FORMER))
    for pod in ("b", "a"):
        await keeper(world, FORMER).keep(pod.encode(), pod)
    await keeper(world, FORMER).keep(b"agent", "b", "agent")
    await world.teller.tell(event("running"), created=BIRTH + 1)
    assert await why_not(world, job="former") == (
        "Job 'eval-42-former' left logs of 2 Pods in no known order; choose an attempt, 1 to 2: a, b"
    )
    jobcast = world.join()
    assert await jobcast.log("42", job="former", attempt=1).read() == b"a"
    assert await why_not(world, job="former", attempt=2) == (
        "Job 'eval-42-former': no log of a container of b is known; choose one of agent, main"
    )
    assert await jobcast.log("42", job="former", attempt=2, container="main").read() == b"b"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("pod-gone", "the log of pod-a/main is not kept: the Pod was deleted or evicted, or went with its node"),
        ("timeout", "the log of pod-a/main is not kept: it could not be read in time"),
        ("of a later version", "the log of pod-a/main is not kept: of a later version"),
        (None, "the log of pod-a/main is not kept: the service keeps excerpts only"),
    ],
)
async def test_it_says_why_a_log_was_not_kept(world: World, reason: str | None, said: str) -> None:
    await world.teller.tell(event("failed", log=unkept(reason)))
    with pytest.raises(NotKept) as caught:
        await world.join().log("42").read()
    assert str(caught.value) == said
    assert caught.value.log == unkept(reason)


async def test_it_says_that_nothing_is_known(world: World) -> None:
    assert await why_not(world) == "evaluation '42' not found"
    await world.teller.see("42", JOB)
    assert await why_not(world) == (
        "evaluation '42': none of its Pods is known; a log is read after its container has ended"
    )
    assert await why_not(world, attempt=1) == "evaluation '42' has no attempt 1; none is known"
    await world.teller.tell(event("failed"))
    assert await why_not(world) == "evaluation '42': none of its Pods is known"


async def test_a_log_that_is_gone_from_its_store_is_said_to_be(world: World, store: str, tmp_path: Path) -> None:
    await world.teller.tell(event("running"))
    log = await keeper(world, store=store).keep(b"hello")
    await world.teller.tell(event("failed", log=log))
    assert log.ref is not None
    if store == "redis":
        await world.redis.delete(log.ref.removeprefix("redis:"))
    else:
        Path(log.ref.removeprefix("file://")).unlink()
    assert ("no longer in Redis" if store == "redis" else "not there") in await why_not(world)


async def test_what_was_cut_is_given_as_far_as_it_is_kept(world: World) -> None:
    data = b"x" * 5_000_000
    await world.teller.tell(event("running"))
    log = await keeper(world).keep(data)
    await world.teller.tell(event("failed", log=log))
    feed = world.join().log("42")
    assert await feed.read() == data[: 4 * 1024 * 1024]
    assert (feed.log.state, feed.log.reason, feed.log.bytes) == ("truncated", "store-limit", 5_000_000)


@pytest.mark.parametrize(
    "damage",
    [
        {"sha256": hashlib.sha256(b"other").hexdigest()},
        {"sha256": hashlib.sha256(b"other").hexdigest(), "state": "truncated", "reason": "rotated"},
        {"bytes": 4, "sha256": None},
    ],
)
async def test_other_bytes_than_were_read_are_an_error_at_the_end(
    world: World, store: str, damage: dict[str, Any]
) -> None:
    await world.teller.tell(event("running"))
    await keeper(world, store=store).keep(b"hello", **damage)
    await world.teller.tell(event("failed", attempts=[Attempt(pod="pod-a", container="main")]))
    given = []
    with pytest.raises(Damaged, match="pod-a/main is damaged"):
        async for chunk in world.join().log("42"):
            given.append(chunk)  # noqa: PERF401 - what was given before it raised is the point
    assert given == [b"hello"]


@pytest.mark.parametrize("blob", [b"", b"rubbish", b"\x28\xb5\x2f\xfd\x04"])
async def test_what_is_no_log_in_redis_is_damaged(world: World, blob: bytes) -> None:
    await world.teller.tell(event("running"))
    log = await keeper(world).keep(b"hello")
    await world.teller.tell(event("failed", log=log))
    assert log.ref is not None
    await world.redis.set(log.ref.removeprefix("redis:"), blob)
    with pytest.raises(Damaged, match="damaged"):
        await world.join().log("42").read()
    await world.redis.delete(log.ref.removeprefix("redis:"))
    await world.redis.rpush(log.ref.removeprefix("redis:"), blob)
    with pytest.raises(Refused, match="WRONGTYPE"):
        await world.join().log("42").read()


async def test_no_other_file_or_key_is_read_because_a_record_says_so(world: World, tmp_path: Path) -> None:
    """Strangers may write to Redis, and whoever reads logs may read more than they."""
    secret = tmp_path / "secret.0.log"
    secret.write_bytes(b"secret")
    await world.redis.set("secret", b"secret")
    refs = ["redis:secret", f"redis:{world.keys.log('others', 'pod-a', 'main')}", f"file://{secret}", "", "/etc/passwd"]
    for ref in [*refs, "http://169.254.169.254/", f"file://{tmp_path}/evals/eval-42/{JOB.uid}/pod-a/main.1.log"]:
        await world.teller.tell(event("failed", log=replace(unkept(None), ref=ref), uid=JOB.uid))
        assert "which is not a location of its Job" in await why_not(world)
        await world.redis.delete(world.keys.job(JOB.uid), world.keys.evaluation("42"))


@pytest.mark.parametrize("which", [{"attempt": 0}, {"attempt": -1}, {"instance": -1}])
async def test_numbers_that_nothing_can_have_are_refused_at_once(world: World, which: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"attempts are counted from 1|first instance is 0"):
        world.join().log("42", **which)


async def test_it_asks_again_when_its_connection_was_cut_while_idle(
    own_persistent_world: World, persistent_valkey: ValkeyServer
) -> None:
    world = own_persistent_world
    await world.teller.tell(event("running"))
    log = await keeper(world).keep(b"hello")
    await world.teller.tell(event("failed", log=log))
    jobcast = world.join()
    assert await jobcast.log("42").read() == b"hello"
    persistent_valkey.stop()
    persistent_valkey.start()
    assert await jobcast.log("42").read() == b"hello"


async def test_a_redis_that_is_not_there_is_unavailable_within_seconds(kind: str, prefix: str) -> None:
    jobcast = subscriber(kind, f"redis://127.0.0.1:{free_port()}/0", prefix)
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable):
            await jobcast.log("42").read()
    await jobcast.aclose()


async def test_an_object_store_that_is_not_there_is_unavailable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    ref = f"s3://bucket/evals/eval-42/{JOB.uid}/pod-a/main.0.log"
    await world.teller.tell(event("failed", log=replace(unkept(None), ref=ref, bytes=5)))
    with pytest.raises(Unavailable, match="nothing listens") as caught:
        await world.join().log("42").read()
    assert "s3cret" not in repr(caught.value)


async def test_a_client_of_ones_own_that_decodes_replies_reads_bytes_all_the_same(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    prefix = own_world.keys.prefix
    await own_world.teller.tell(event("running"))
    log = await keeper(own_world).keep(EXACT)
    await own_world.teller.tell(event("failed", log=log))
    if own_world.kind == "plain":
        with redis.Redis(port=own_valkey.port, decode_responses=True) as plain:
            assert await Threaded(Client(prefix=prefix, client=plain)).log("42").read() == EXACT
        return
    async with redis.asyncio.Redis(port=own_valkey.port, decode_responses=True) as client:
        assert await AsyncClient(prefix=prefix, client=client).log("42").read() == EXACT
