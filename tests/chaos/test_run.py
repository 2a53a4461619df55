"""The order of a run: what its last fault would hide is judged before it."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from chaos import run as runs
from chaos.plan import FaultPlan, Plan
from chaos.run import Result, Run
from chaos.verdict import Observed, Verdict

KILL = FaultPlan(0, 0.0, "kill", ("worker-0",), 0.0)
EMPTIED = FaultPlan(1, 0.0, "redis-emptied", (), 0.0)


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order."""
    done: list[str] = []

    class Fault:
        def __init__(self, world: Any, plan: FaultPlan) -> None:
            self._kind = plan.kind

        async def begin(self) -> None:
            done.append(self._kind)

        async def end(self) -> None: ...

    async def heal(world: Any) -> None:
        done.append("heal")

    async def rest(self: Run) -> Observed:
        return Observed([[]])

    monkeypatch.setattr(runs, "FAULTS", {"kill": Fault, "redis-emptied": Fault})
    monkeypatch.setattr(runs, "heal", heal)
    monkeypatch.setattr(Run, "_rest", rest)
    return done


async def result_of(
    story: list[str], monkeypatch: pytest.MonkeyPatch, wrong: int, notes: tuple[str, ...] = ()
) -> Result:
    def judge(*_: object) -> Verdict:
        story.append("judge")
        found = Verdict()
        found.counts["lost"] = wrong
        return found

    monkeypatch.setattr(runs, "judge", judge)
    cluster = SimpleNamespace(writes=0)
    world: Any = SimpleNamespace(
        bare=cluster,
        with_pods=cluster,
        kubelet=None,
        truths={},
        devcluster=True,
        known=None,
        published=None,
        turns=defaultdict(asyncio.Lock),
        reader=SimpleNamespace(entries=0, redelivered=0, errors=[]),
        doors=SimpleNamespace(doors={}),
        parts={},
        notes=list(notes),
    )
    return await Run(Plan(1, 0.0, (), (KILL, EMPTIED)), world, patience=0).carry_out()


async def test_all_is_judged_before_redis_forgets_for_the_last_time_and_again(
    story: list[str], monkeypatch: pytest.MonkeyPatch
):
    assert (await result_of(story, monkeypatch, wrong=0)).is_green
    assert story == ["kill", "heal", "judge", "redis-emptied", "heal", "judge"]


async def test_what_is_wrong_is_not_published_again_by_a_redis_that_forgets(
    story: list[str], monkeypatch: pytest.MonkeyPatch
):
    assert not (await result_of(story, monkeypatch, wrong=1)).is_green
    assert story == ["kill", "heal", "judge"]


async def test_a_run_in_which_something_else_went_wrong_is_not_green(story: list[str], monkeypatch: pytest.MonkeyPatch):
    result = await result_of(story, monkeypatch, wrong=0, notes=("job 3: refused",))
    assert result.verdict.is_green and not result.is_green


async def test_a_deletion_that_has_begun_is_ended_and_known_of(story: list[str], monkeypatch: pytest.MonkeyPatch):
    class Life:
        name, is_over = "job-0", True

        async def act(self, action: str) -> None:
            story.append(action)
            await asyncio.sleep(0.05)
            story.append(f"{action} done")

    monkeypatch.setattr(runs, "TTL_SECONDS", 0.0)
    monkeypatch.setattr(Run, "_live_all", live_one(Life()))
    await result_of(story, monkeypatch, wrong=0)
    assert story.index("delete done") < story.index("heal")


def live_one(life: Any) -> Any:
    """Its life is over as soon as the run begins; all else waits until its deletion has begun."""

    async def live_all(self: Run, begun: float) -> None:
        self._removals.add(asyncio.create_task(self._remove(life)))
        async with asyncio.timeout(5):
            while not self._deletions:
                await asyncio.sleep(0)

    return live_all
