"""A task that ends, fails, or fails again and again: said once, counted, started again, and published to the probe."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from jobcast.service import supervisor
from jobcast.service.supervisor import HOPELESS, PAUSE_SECONDS, STEADY_SECONDS, Supervisor
from tests.conftest import eventually

pytestmark = pytest.mark.must_survive(4)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What it would have waited before each restart; it does not wait."""
    asked: list[float] = []
    pause = supervisor.pause

    def none(failures: int, bounds: tuple[float, float]) -> float:
        asked.append(pause(failures, bounds))
        return 0

    monkeypatch.setattr(supervisor, "pause", none)
    yield asked


class Task:
    """Does in its n-th run what the n-th of its acts says, and then runs on."""

    def __init__(self, *acts: Any) -> None:
        self.acts = list(acts)
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self.acts and (act := self.acts.pop(0)) is not None:
            raise act
        if self.runs > 1 and not self.acts:
            await asyncio.Event().wait()


RESTARTS: Counter[str] = Counter()


def supervised(**more: Any) -> Supervisor:
    return Supervisor(restarted=lambda task: RESTARTS.update([task]), **more)


def restarts(task: str) -> float:
    return RESTARTS[task]


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (RuntimeError("a mistake"), "task failed"),
        (asyncio.CancelledError(), "task failed"),
        (None, "task ended"),
    ],
    ids=["raises", "is-cancelled-by-what-it-waits-for", "ends"],
)
async def test_a_task_that_stops_by_itself_is_said_once_counted_and_started_again(
    act: Any, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    task, before = Task(act), restarts("fragile")
    async with supervised().running({"fragile one": task.run}):
        await eventually(lambda: task.runs == 2)
    (record,) = caplog.records
    assert (record.message, record.__dict__["task"]) == (line, "fragile one")
    assert bool(record.exc_info) is (act is not None), "with its traceback, if there is one"
    assert restarts("fragile") == before + 1, "counted by its kind: labels are bounded"


async def test_the_failure_of_one_task_leaves_the_others_alone() -> None:
    fragile, steady = Task(RuntimeError("a mistake")), Task()
    steady.runs = 1
    async with supervised().running({"fragile": fragile.run, "steady": steady.run}):
        await eventually(lambda: fragile.runs == 2)
        assert steady.runs == 2


async def test_it_is_started_again_later_each_time_and_never_too_late(pauses: list[float]) -> None:
    task, (first, longest) = Task(*[RuntimeError("again")] * 200), PAUSE_SECONDS
    async with supervised().running({"fragile": task.run}):
        await eventually(lambda: task.runs == 201)
    for failures, pause in enumerate(pauses):
        whole = min(first * 2**failures, longest)
        assert whole / 2 <= pause <= whole
    assert len(set(pauses)) > 190, "jittered"


@pytest.mark.must_survive(35)
async def test_a_task_that_cannot_be_brought_back_is_named_until_it_runs_again() -> None:
    now = 0.0
    supervisor = supervised(clock=lambda: now)
    task = Task(*[RuntimeError("again")] * (HOPELESS - 1))
    async with supervisor.running({"lost": task.run}):
        await eventually(lambda: task.runs == HOPELESS)
        assert supervisor.hopeless() is None, "it may still come back"
    lost = Task(*[RuntimeError("again")] * HOPELESS)
    async with supervisor.running({"lost": lost.run}):
        await eventually(lambda: lost.runs == HOPELESS + 1)
        assert supervisor.hopeless() == "task lost keeps failing"
        now += STEADY_SECONDS
        assert supervisor.hopeless() is None, "it has run for a while"


async def test_failures_that_are_far_apart_do_not_add_up() -> None:
    now, failures = 0.0, 0
    supervisor = supervised(clock=lambda: now)

    async def run() -> None:
        nonlocal now, failures
        failures += 1
        if failures > HOPELESS * 2:
            await asyncio.Event().wait()
        now += STEADY_SECONDS + 1
        raise RuntimeError("once a minute")

    async with supervisor.running({"moody": run}):
        await eventually(lambda: failures > HOPELESS * 2)
        assert supervisor.hopeless() is None


async def test_a_task_that_swallows_its_cancellation_is_ended_all_the_same_and_not_called_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As wait_for does in Python 3.11 when what it waits for is done at the same moment."""
    swallowed = 0

    async def run() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1

    async with supervised().running({"stubborn": run}):
        await asyncio.sleep(0)
    assert swallowed == 2
    assert not caplog.records
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "stubborn"]
