"""How long a Job is held at most, and what a release that fails costs the others."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from controller import metrics
from controller.finalizers import HOLD_AGAIN_SECONDS, LIST_SECONDS, PAUSE_SECONDS, WARNING_SECONDS, Finalizers
from controller.store import Store
from jobcast.jobs.model import FINALIZER, Job
from jobcast.kube import Forbidden, Invalid, KubeError, Page, Throttled, Unreachable
from tests.lines import capture_logs
from tests.unit.objects import job

LONGEST = 300.0
CANNOT_REMOVE = "cannot remove finalizer"


def held(name: str, *, going: bool = True) -> Job:
    meta: dict[str, Any] = {"uid": f"uid-{name}", "name": name, "finalizers": [FINALIZER]}
    # Whatever the cluster's clock says: ours decides.
    return job(meta=meta | ({"deletionTimestamp": "1999-01-01T00:00:00Z"} if going else {}))


class FakeCluster:
    def __init__(self) -> None:
        self.tries: list[str] = []
        self.refusals: dict[str, KubeError] = {}

    async def release(self, namespace: str, name: str, uid: str) -> None:
        self.tries.append(name)
        if name in self.refusals:
            raise self.refusals[name]


class FakeReflector:
    def __init__(self) -> None:
        self.source = self
        self.status = SimpleNamespace(is_watching=True, namespace="evals")
        self.lists = 0
        self.items: list[Job] = []
        self.refusal: KubeError | None = None

    async def pages(self) -> AsyncIterator[Page[Job]]:
        self.lists += 1
        if self.refusal is not None:
            raise self.refusal
        yield Page(self.items, "1", "")


class World:
    def __init__(self) -> None:
        self.clock = 1000.0
        self.store, self.cluster, self.reflector = Store(), FakeCluster(), FakeReflector()
        self.queue: list[str] = []
        cluster: Any = self.cluster
        self.later: list[tuple[str, float]] = []
        queue: Any = SimpleNamespace(
            add=self.queue.append, add_after=lambda uid, seconds: self.later.append((uid, seconds))
        )
        watches = [SimpleNamespace(jobs=self.reflector)]
        mirror: Any = SimpleNamespace(store=self.store, queue=queue, watches=watches)
        self.redis_error: str | None = None
        self.finalizers = Finalizers(
            cluster, mirror, longest=LONGEST, redis_error=lambda: self.redis_error, clock=lambda: self.clock
        )
        self._unpublished = self._count()

    def put(self, *jobs: Job) -> None:
        for one in jobs:
            self.store.put_job(one)

    async def after(self, seconds: float) -> list[str]:
        """What a check after so long tries to release."""
        self.clock += seconds
        self.cluster.tries.clear()
        await self.finalizers.check()
        return list(self.cluster.tries)

    @property
    def unpublished(self) -> float:
        return self._count() - self._unpublished

    @staticmethod
    def _count() -> float:
        return metrics.finalizers_released_unpublished._value.get()


@pytest.fixture
def world() -> World:
    return World()


def test_the_finalizer_is_never_renamed() -> None:
    assert FINALIZER == "jobcast.dev/outcome", "Jobs that bear the old name would be held for ever"


async def test_a_job_in_deletion_is_let_go_after_so_long_and_once(world: World) -> None:
    world.put(held("a"), held("stays", going=False), job(meta={"uid": "not-ours", "deletionTimestamp": "x"}))
    assert await world.after(0) == []
    assert await world.after(LONGEST - 1) == []
    assert await world.after(1) == ["a"]
    assert await world.after(1) == [], "the watch has not shown it yet"
    assert world.unpublished == 1


async def test_each_job_has_its_own_time_from_when_it_was_first_seen_going(world: World) -> None:
    world.put(held("early"), held("late", going=False))
    await world.after(0)
    await world.after(100)
    world.put(held("late"))
    await world.after(1)
    assert await world.after(LONGEST - 101) == ["early"]
    assert await world.after(100) == []
    assert await world.after(1) == ["late"]


async def test_a_job_that_went_or_was_published_meanwhile_is_left_alone(world: World) -> None:
    world.put(held("went"), held("published"))
    await world.after(0)
    world.store.remove_job("uid-went")
    world.store.drop("uid-published")
    assert await world.after(LONGEST) == []


async def test_why_it_went_unpublished_is_logged(world: World) -> None:
    world.put(held("a"))
    await world.after(0)
    world.redis_error = "OOM"
    with capture_logs() as lines:
        await world.after(LONGEST + 5)
    (line,) = lines
    assert (line["job"], line["why"], line["seconds"], line["level"]) == ("evals/a", "OOM", 305, "warning")


async def test_a_release_that_failed_is_retried_and_does_not_count_as_unpublished(world: World) -> None:
    world.cluster.refusals["a"] = Throttled("later")
    await world.finalizers.release("evals", "a", "uid-a")
    assert await world.after(1) == ["a"]
    world.cluster.refusals.clear()
    assert await world.after(PAUSE_SECONDS[1]) == ["a"]
    assert await world.after(PAUSE_SECONDS[1]) == []
    assert world.unpublished == 0


async def test_one_that_is_refused_does_not_keep_the_others(world: World) -> None:
    world.put(held("a"), held("b"), held("c"))
    world.cluster.refusals = {"a": Invalid("a webhook dislikes it"), "b": Forbidden("may not")}
    await world.after(0)
    assert await world.after(LONGEST) == ["a", "b", "c"]
    assert await world.after(PAUSE_SECONDS[0]) == ["a", "b"]
    assert world.unpublished == 1


async def test_a_server_that_is_down_is_asked_once_and_ever_less_often(world: World) -> None:
    world.put(held("a"), held("b"))
    world.cluster.refusals = {"a": Unreachable("no answer")}
    await world.after(0)
    assert await world.after(LONGEST) == ["a"]
    pause, longest = PAUSE_SECONDS
    for _ in range(10):
        assert await world.after(pause - 0.1) == []
        assert await world.after(0.1) == ["a"]
        pause = min(pause * 2, longest)
    world.cluster.refusals.clear()
    assert await world.after(longest) == ["a", "b"]
    world.put(held("c"))
    await world.after(0)
    assert await world.after(LONGEST) == ["c"], "and at once again when it is up"


async def test_a_missing_permission_is_logged_once_a_minute_and_not_for_each_job(world: World) -> None:
    names = [f"job-{number}" for number in range(50)]
    world.cluster.refusals = dict.fromkeys(names, Forbidden("cannot patch jobs"))
    with capture_logs() as lines:
        for name in names:
            await world.finalizers.release("evals", name, f"uid-{name}")
        world.clock += WARNING_SECONDS
        await world.finalizers.release("evals", names[0], f"uid-{names[0]}")
    assert [(line["event"], line["suppressed"]) for line in lines] == [(CANNOT_REMOVE, 0), (CANNOT_REMOVE, 49)]
    assert all('resources ["jobs"], verbs ["patch"]' in line["needed"] for line in lines)


async def test_a_job_that_could_not_be_held_is_reconciled_again(world: World) -> None:
    with capture_logs() as lines:
        world.finalizers.cannot_hold(held("a"), Throttled("too many requests"))
    assert world.later == [("uid-a", HOLD_AGAIN_SECONDS)]
    assert [(line["event"], line["why"]) for line in lines] == [("cannot add finalizer", "too many requests")]


async def test_what_is_held_is_counted(world: World) -> None:
    world.put(held("a"), held("b", going=False), job(meta={"uid": "free"}))
    world.cluster.refusals["published"] = Forbidden("may not")
    await world.finalizers.release("evals", "published", "uid-published")
    await world.after(0)
    assert metrics.finalizers_held._value.get() == 3


async def test_it_lists_for_itself_while_the_watches_wait_for_redis(world: World) -> None:
    world.reflector.items = [held("a"), held("runs", going=False)]
    await world.after(0)
    world.redis_error = "refused"
    await world.after(1)
    assert world.reflector.lists == 0, "it is watched"
    world.reflector.status.is_watching = False
    await world.after(1)
    assert (world.reflector.lists, world.queue) == (1, ["uid-a"])
    await world.after(LIST_SECONDS - 1)
    assert world.reflector.lists == 1
    assert await world.after(LONGEST - LIST_SECONDS + 1) == ["a"]
    assert (world.reflector.lists, world.queue) == (2, ["uid-a"])
    assert world.store.job("uid-a") is not None, "to be published when Redis is up"


async def test_a_list_that_fails_ends_nothing(world: World) -> None:
    world.put(held("a"))
    world.redis_error, world.reflector.refusal = "refused", Unreachable("no answer")
    world.reflector.status.is_watching = False
    await world.after(0)
    assert await world.after(LONGEST) == ["a"]
