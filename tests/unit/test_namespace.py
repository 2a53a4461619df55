"""What lists and watches do to the store and the queue."""

from typing import Any

import pytest

from controller.namespace import QUIET_SECONDS, JobStore, PodStore
from controller.store import Store
from jobcast.jobs.model import Job
from jobcast.kube import Change
from tests.unit.objects import STARTED, UID, condition, ended_state, job, pod, running_state

RUNNING = job(startTime=STARTED, ready=1)
COMPLETE = job(startTime=STARTED, version=101, conditions=[condition("Complete")])


class FakeReconciler:
    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.in_redis: set[str] = set()
        self.forgotten: list[str] = []

    async def has_memories(self) -> bool:
        return True

    async def recall(self, uids: list[str]) -> None:
        self.ended |= self.in_redis & set(uids)

    def is_ended(self, uid: str) -> bool:
        return uid in self.ended

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)


class FakeQueue(list[str]):
    add = list.append

    def add_after(self, key: str, seconds: float) -> None:
        assert 0 < seconds <= QUIET_SECONDS
        self.append(f"{key} later")

    async def room(self, keys: int) -> None:
        """There always is."""


class World:
    def __init__(self) -> None:
        self.store, self.queue, self.reconciler = Store(), FakeQueue(), FakeReconciler()
        queue: Any = self.queue
        reconciler: Any = self.reconciler
        self.jobs = JobStore("evals", self.store, queue, reconciler)
        self.pods = PodStore("evals", self.store, queue)

    async def list(self, *jobs: Job) -> None:
        self.queue.clear()
        self.jobs.begin()
        await self.jobs.page(list(jobs))
        self.jobs.end("1")


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.must_survive(1)
async def test_a_list_enqueues_the_jobs_in_it_and_those_missing_from_it(world: World) -> None:
    await world.list(RUNNING, job(uid="other"))
    assert world.queue == [UID, "other"]
    await world.list(job(uid="other"))
    assert world.queue == ["other", UID]
    assert world.store.is_gone(UID)


@pytest.mark.must_survive(10)
async def test_a_job_that_was_published_before_we_started_is_not_reconciled(world: World) -> None:
    world.reconciler.in_redis = {UID}
    await world.list(COMPLETE)
    assert (world.queue, world.store.job(UID), world.store.ended_count) == ([], None, 1)
    world.jobs.change(Change("MODIFIED", "102", COMPLETE))
    assert world.queue == []
    world.jobs.change(Change("DELETED", "103", COMPLETE))
    assert (world.store.ended_count, world.reconciler.forgotten) == (0, [UID])


@pytest.mark.must_survive(34)
async def test_a_job_that_another_replica_published_meanwhile_is_dropped(world: World) -> None:
    await world.list(RUNNING)
    world.store.put_pod(pod(running_state()))
    world.reconciler.in_redis = {UID}
    await world.list(COMPLETE)
    assert world.queue == [UID], "reconciling it drops what is kept of it"


async def test_a_deleted_job_is_kept_as_it_was_last(world: World) -> None:
    await world.list(RUNNING)
    world.jobs.change(Change("DELETED", "102", COMPLETE))
    assert world.store.job(UID) is COMPLETE
    assert world.store.is_gone(UID)
    assert world.queue == [UID, UID]


async def test_a_change_with_nothing_to_publish_is_reconciled_with_others_like_it(world: World) -> None:
    await world.list()
    world.jobs.change(Change("ADDED", "101", job()))
    world.jobs.change(Change("MODIFIED", "102", RUNNING))
    assert world.queue == [f"{UID} later", UID]


async def test_where_jobs_are_held_a_new_one_is_reconciled_at_once(world: World) -> None:
    queue: Any = world.queue
    reconciler: Any = world.reconciler
    jobs = JobStore("evals", world.store, queue, reconciler, holds=True)
    jobs.change(Change("ADDED", "101", job()))
    jobs.change(Change("MODIFIED", "102", job()))
    assert world.queue == [UID, f"{UID} later"]


async def test_a_change_of_a_pod_enqueues_its_job(world: World) -> None:
    await world.list(RUNNING)
    world.queue.clear()
    world.pods.change(Change("ADDED", "5", pod(running_state())))
    world.pods.change(Change("MODIFIED", "6", pod(running_state(), version=201)))
    world.pods.change(Change("MODIFIED", "7", pod(ended_state())))
    world.pods.change(Change("DELETED", "8", pod(ended_state())))
    assert world.queue == [UID] * 3, "an update without news enqueues nothing"
    assert world.store.pods(UID)[0].gone


@pytest.mark.must_survive(1)
async def test_a_pod_that_a_list_does_not_contain_is_gone(world: World) -> None:
    await world.list(RUNNING)
    world.pods.change(Change("ADDED", "5", pod(running_state())))
    world.queue.clear()
    world.pods.begin()
    await world.pods.page([])
    world.pods.end("9")
    assert world.store.pods(UID)[0].gone
    assert world.queue == [UID]
