"""What a reconciler keeps, waits for and leaves alone; that stories are published once is proved in tests/property."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fakeredis
import msgspec
import pytest

from controller.store import Store
from jobcast.jobs.model import Job, Pod
from jobcast.keys import Keys
from jobcast.kube import Forbidden, KubeError, Throttled, Unreachable
from jobcast.ledger.ledger import Ledger, Outgoing, Step
from jobcast.logs.plan import LogPlan
from jobcast.logs.reader import LogReads
from jobcast.reconcile.reconciler import DONE, OTHER_SECONDS, Hooks, Options, Reconciler
from tests.logs.room import FakeSource
from tests.unit.objects import (
    ENDED,
    RESUMED,
    STARTED,
    UID,
    condition,
    ended_state,
    job,
    pod,
    running_state,
    waiting_state,
)

NO_HOOKS = Hooks()
RUNNING = job(startTime=STARTED, ready=1)
COMPLETE = job(startTime=STARTED, version=101, conditions=[condition("Complete")], succeeded=1)


class FakeCluster:
    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.pods: list[Pod] | KubeError = []
        self.asked = 0
        """How often for Pods."""
        self.held: list[str] = []
        self.refusal: KubeError | None = None

    async def job(self, namespace: str, name: str) -> Job | None:
        if self.refusal is not None:
            raise self.refusal
        return self.jobs.get(name)

    async def pods_of(self, namespace: str, selector: str) -> list[Pod]:
        self.asked += 1
        if isinstance(self.pods, KubeError):
            raise self.pods
        return self.pods

    async def hold(self, namespace: str, name: str, uid: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.held.append(uid)

    async def release(self, namespace: str, name: str, uid: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.held.remove(uid)

    def now(self) -> str:
        return ENDED


def kept_by(reconciler: Reconciler) -> set[str]:
    """The uids that it has anything of."""
    maps = [value for one in (reconciler, reconciler.claims) for value in vars(one).values()]
    return set().union(*(value for value in maps if isinstance(value, dict | set)))


class World:
    """One reconciler over a real store and a ledger on a fake Redis."""

    def __init__(
        self, ledger: Ledger, client: Any, *, all_logs: bool = False, holds: bool = False, hooks: Hooks = NO_HOOKS
    ) -> None:
        self.clock = 0.2
        self.client, self.ledger = client, ledger
        self.store, self.cluster = Store(), FakeCluster()
        self.source = FakeSource(**{"eval-42-abcde": [b"what it said"]})
        self.done: list[str] = []
        self.logs = LogReads(self.source, excerpt_bytes=256, concurrency=2, done=self.done.append)
        self.reconciler = Reconciler(
            self.store,
            self.cluster,
            ledger,
            LogPlan(self.logs, all_logs=all_logs),
            Options(namespaces=("evals",), holds=holds, clock=lambda: self.clock),
            hooks,
        )

    async def published(self) -> list[str]:
        return [fields[b"status"].decode() for _, fields in await self.client.xrange(self.ledger.keys.events)]

    async def until_published(self) -> None:
        async with asyncio.timeout(60):
            while (await self.reconciler.reconcile(UID)).later is not None:
                await asyncio.sleep(0)


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    client = fakeredis.FakeAsyncRedis()
    async with Ledger(client, Keys("test")) as ledger:
        one = World(ledger, client)
        async with one.logs:
            yield one
    await client.aclose()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as one:
        yield one


async def test_reconciling_again_publishes_nothing_new(world: World) -> None:
    world.store.put_job(RUNNING)
    first = await world.reconciler.reconcile(UID)
    assert [event.status for event in first.published] == ["running"]
    for _ in range(3):
        assert await world.reconciler.reconcile(UID) == DONE
    assert await world.published() == ["running"]


async def test_a_new_job_is_recorded_and_nothing_is_published(world: World) -> None:
    world.store.put_job(job())
    assert await world.reconciler.reconcile(UID) == DONE
    row = await world.ledger.row(UID)
    assert row is not None
    assert (row.status, await world.published()) == ("pending", [])


async def test_an_end_waits_for_its_log_and_leaves_with_it(world: World) -> None:
    world.store.put_job(COMPLETE)
    world.store.put_pod(pod(ended_state()))
    assert (await world.reconciler.reconcile(UID)).later == pytest.approx(10)
    await world.until_published()
    assert await world.published() == ["running", "completed"]
    assert world.source.tries == ["eval-42-abcde"]
    ((_, _), (_, fields)) = await world.client.xrange(world.ledger.keys.events)
    assert b"what it said" in fields[b"event"]


@pytest.mark.must_survive(22)
async def test_an_end_waits_no_longer_than_the_log_may_take(world: World) -> None:
    world.source.answers["eval-42-abcde"] = [asyncio.Event()]
    world.store.put_job(COMPLETE)
    world.store.put_pod(pod(ended_state()))
    await world.reconciler.reconcile(UID)
    world.clock += 9.9
    assert (await world.reconciler.reconcile(UID)).later == pytest.approx(0.1)
    world.clock += 0.1
    outcome = await world.reconciler.reconcile(UID)
    assert [event.status for event in outcome.published] == ["running", "completed"]
    assert outcome.published[-1].log.reason == "timeout"  # type: ignore[union-attr]


NEVER_RAN = job(startTime=STARTED, version=101, conditions=[condition("Failed", reason="DeadlineExceeded")], failed=1)


@pytest.mark.must_survive(5)
@pytest.mark.parametrize("refusal", [Throttled("later", code=429), Unreachable("no answer")], ids=["429", "away"])
async def test_an_end_waits_until_the_api_server_says_whether_it_ever_ran(world: World, refusal: KubeError) -> None:
    world.cluster.pods = refusal
    world.store.put_job(NEVER_RAN)
    for _ in range(5):  # however long it takes
        with pytest.raises(KubeError):
            await world.reconciler.reconcile(UID)
        world.clock += 60
    world.cluster.pods = [pod(waiting_state("ImagePullBackOff"))]
    await world.until_published()
    assert await world.published() == ["failed"]


@pytest.mark.must_survive(5)
async def test_an_api_server_that_asks_us_to_wait_is_not_asked_for_the_pods_of_every_job(world: World) -> None:
    world.cluster.pods = Throttled("later", code=429, retry_after=3)
    for number in range(50):
        one = msgspec.structs.replace(NEVER_RAN, uid=f"uid-{number}", name=f"eval-{number}")
        world.store.put_job(one)
        with pytest.raises(Throttled, match="later"):
            await world.reconciler.reconcile(one.uid)
    assert world.cluster.asked == 1
    world.clock += 3
    with pytest.raises(Throttled):
        await world.reconciler.reconcile("uid-0")
    assert world.cluster.asked == 2


async def test_where_jobs_have_no_pods_not_each_of_them_is_asked_for_its_pods(world: World) -> None:
    for number in range(50):
        one = msgspec.structs.replace(COMPLETE, uid=f"uid-{number}", name=f"eval-{number}")
        world.store.put_job(one)
        await world.reconciler.reconcile(one.uid)
    assert world.cluster.asked == 1


async def test_a_job_whose_pods_are_gone_says_nothing_of_another_whose_pods_the_watch_has_not_brought(
    world: World,
) -> None:
    world.store.put_pod(msgspec.structs.replace(pod(ended_state()), owner="another"))
    world.store.put_job(msgspec.structs.replace(NEVER_RAN, uid="of-deleted-pods", name="eval-43"))
    await world.reconciler.reconcile("of-deleted-pods")
    world.cluster.pods = [pod(waiting_state("ImagePullBackOff"))]
    world.store.put_job(NEVER_RAN)
    await world.reconciler.reconcile(UID)
    world.clock += 60  # for a log that there is not
    await world.until_published()
    assert (await world.published()).count("running") <= 1, "of the other one"


@pytest.mark.must_survive(12)
async def test_pods_that_a_suspension_killed_do_not_explain_an_end(world: World) -> None:
    conditions = [condition("Suspended", "False"), condition("Failed", reason="BackoffLimitExceeded")]
    world.store.put_job(job(startTime=RESUMED, version=101, conditions=conditions, failed=1))
    world.store.put_pod(pod(ended_state(143), name="former", deleted=True))
    world.cluster.pods = [pod(ended_state(3, started=RESUMED, finished="2026-11-20T11:00:09Z"))]
    await world.until_published()
    assert await world.published() == ["running", "failed"]
    (*_, (_, fields)) = await world.client.xrange(world.ledger.keys.events)
    assert msgspec.json.decode(fields[b"event"])["exit_code"] == 3


@pytest.mark.must_survive(11)
async def test_an_end_waits_for_the_attempt_that_the_watch_has_not_brought_yet(world: World) -> None:
    first = pod(ended_state(1), name="first")
    last = pod(ended_state(2, started=ENDED, finished="2026-11-20T10:05:00Z"), name="last", version=300)
    world.source.answers |= {"first": [b"first"], "last": [b"last"]}
    world.store.put_job(job(startTime=STARTED, version=101, conditions=[condition("Failed")], failed=2))
    world.store.put_pod(first)
    world.cluster.pods = [first, last]
    await world.until_published()
    assert await world.published() == ["running", "failed"]
    (*_, (_, fields)) = await world.client.xrange(world.ledger.keys.events)
    event = msgspec.json.decode(fields[b"event"])
    assert (event["exit_code"], event["output"], len(event["attempts"])) == (2, "last", 2)
    assert world.cluster.asked == 1, "and what it said was remembered"


async def test_an_end_whose_attempts_are_all_here_asks_for_no_pods(world: World) -> None:
    world.store.put_job(COMPLETE)
    world.store.put_pod(pod(ended_state()))
    await world.until_published()
    assert world.cluster.asked == 0


async def test_where_pods_may_not_be_listed_an_end_is_published_without_them(world: World) -> None:
    world.cluster.pods = Forbidden("pods is forbidden", code=403)
    world.store.put_job(COMPLETE)
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(UID)
    world.clock += 5
    await world.until_published()
    assert await world.published() == ["running", "completed"]


@pytest.mark.must_survive(24)
async def test_a_log_has_all_of_the_wait_once_redis_works_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "is_down", True)
    world.source.answers["eval-42-abcde"] = [asyncio.Event()]
    world.store.put_job(COMPLETE)
    world.store.put_pod(pod(ended_state()))
    for _ in range(3):
        assert (await world.reconciler.reconcile(UID)).later == pytest.approx(10)
        world.clock += 60
    assert (await world.reconciler.reconcile(UID)).later == pytest.approx(10)
    monkeypatch.setattr(Ledger, "is_down", False)
    world.clock += 9
    assert (await world.reconciler.reconcile(UID)).later == pytest.approx(1)
    world.clock += 1
    assert [event.status for event in (await world.reconciler.reconcile(UID)).published] == ["running", "completed"]


@pytest.mark.must_survive(32)
async def test_a_log_that_another_replica_reads_is_left_to_it(world: World) -> None:
    await world.client.set(world.ledger.keys.claim(UID), "another")
    world.store.put_job(COMPLETE)
    world.store.put_pod(pod(ended_state()))
    assert (await world.reconciler.reconcile(UID)).later == OTHER_SECONDS
    await world.ledger.step(
        Step(uid=UID, version=101, created=1, eval_id="42", namespace="evals", name="eval-42", status="completed")
    )
    assert await world.reconciler.reconcile(UID) == DONE
    assert world.source.tries == []


@pytest.mark.must_survive(34)
async def test_of_a_job_that_vanished_while_no_replica_ran_nothing_is_kept(world: World) -> None:
    await world.ledger.step(
        Step(uid=UID, version=1, created=1, eval_id="42", namespace="evals", name="eval-42", status="pending")
    )
    outcome = await world.reconciler.reconcile(UID)
    assert [event.status for event in outcome.published] == ["cancelled"]
    assert list(world.reconciler.ended_uids()) == [], "its row would be kept from expiring for ever"
    assert world.reconciler.last_published(UID) is None


@pytest.mark.must_survive(34)
async def test_of_a_job_that_ended_and_went_nothing_is_kept(world: World) -> None:
    world.store.put_job(COMPLETE)
    world.store.put_pod(pod(ended_state()))
    await world.until_published()
    assert list(world.reconciler.ended_uids()) == [UID]
    world.store.remove_job(UID)
    world.reconciler.forget(UID)
    assert UID not in kept_by(world.reconciler)
    assert not any(state.read for state in world.logs._states.values())


@pytest.mark.must_survive(9)
async def test_a_vanished_job_whose_log_another_replica_reads_is_not_cancelled(world: World) -> None:
    """It has seen how the Job ended."""
    running = Step(uid=UID, version=1, created=1, eval_id="42", namespace="evals", name="eval-42", status="running")
    await world.ledger.step(running)
    await world.client.set(world.ledger.keys.claim(UID), "another")
    assert (await world.reconciler.reconcile(UID)).later == OTHER_SECONDS
    end = (Outgoing("its end", "completed", b"{}"),)
    await world.ledger.step(msgspec.structs.replace(running, status="completed", version=2, outgoing=end))
    assert await world.reconciler.reconcile(UID) == DONE
    assert await world.published() == ["completed"]
    assert UID not in kept_by(world.reconciler)


@pytest.mark.must_survive(15)
async def test_a_vanished_job_whose_name_is_used_again_is_cancelled(world: World) -> None:
    world.store.put_job(RUNNING)
    await world.reconciler.reconcile(UID)
    world.store.remove_job(UID)
    world.cluster.jobs["eval-42"] = job(uid="another")
    await world.reconciler.reconcile(UID)
    assert await world.published() == ["running", "cancelled"]


async def test_a_job_that_merely_lost_its_label_is_not_cancelled(world: World) -> None:
    world.store.put_job(RUNNING)
    await world.reconciler.reconcile(UID)
    world.store.remove_job(UID)
    world.cluster.jobs["eval-42"] = RUNNING
    assert await world.reconciler.reconcile(UID) == DONE
    assert await world.published() == ["running"]
    assert world.store.job(UID) is None


async def test_jobs_of_other_namespaces_are_others_business(world: World) -> None:
    await world.ledger.step(
        Step(uid=UID, version=1, created=1, eval_id="42", namespace="theirs", name="eval-42", status="pending")
    )
    assert await world.reconciler.reconcile(UID) == DONE
    assert await world.published() == []


async def test_an_open_uid_without_a_row_is_forgotten(world: World) -> None:
    await world.client.zadd(world.ledger.keys.open, {"unknown": 1})
    assert await world.reconciler.reconcile("unknown") == DONE
    assert await world.ledger.open_uids() == []


async def test_an_open_uid_that_has_its_end_is_forgotten(world: World) -> None:
    await world.ledger.step(
        Step(uid=UID, version=1, created=1, eval_id="42", namespace="evals", name="eval-42", status="completed")
    )
    await world.client.zadd(world.ledger.keys.open, {UID: 1})
    assert await world.reconciler.reconcile(UID) == DONE
    assert await world.ledger.open_uids() == []


@pytest.mark.must_survive(20)
async def test_logs_are_read_as_each_container_ends_and_not_before(world: World) -> None:
    world.store.put_job(RUNNING)
    world.store.put_pod(pod(running_state()))
    await world.reconciler.reconcile(UID)
    await asyncio.sleep(0)
    assert world.source.tries == []
    world.store.put_pod(pod(ended_state()))
    await world.reconciler.reconcile(UID)
    async with asyncio.timeout(60):
        while not world.done:
            await asyncio.sleep(0)
    assert world.source.tries == ["eval-42-abcde"]


@pytest.mark.must_survive(26)
async def test_an_end_that_waited_while_redis_lost_data_is_published_with_its_running(world: World) -> None:
    world.store.put_job(RUNNING)
    world.store.put_pod(pod(ended_state()))
    await world.reconciler.reconcile(UID)
    await world.client.flushall()  # what waits is sent before anybody has noticed
    world.store.put_job(COMPLETE)
    await world.until_published()
    assert await world.published() == ["running", "completed"]
