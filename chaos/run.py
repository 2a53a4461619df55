"""One run: carry out the plan, heal everything, wait until no more events come, compare."""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass

from chaos import reader as looks
from chaos.access import Refused
from chaos.faults import FAULTS, heal
from chaos.handlers import handled
from chaos.jobs import Driver, Life
from chaos.plan import FaultPlan, JobPlan, Plan, lanes_of
from chaos.reader import until
from chaos.verdict import Observed, Verdict, judge
from chaos.world import World

TTL_SECONDS = 120.0
"""Seconds that an ended Job is kept, like ttlSecondsAfterFinished, so that a long run does not fill the cluster."""
QUIET_SECONDS = 12.0
"""At rest means no event for this long. It is longer than the time between two sweeps, so that a sweep's repetitions are seen."""


@dataclass
class Result:
    plan: Plan
    verdict: Verdict
    driver: Driver
    observed: Observed
    faults: Counter[str]
    """Begun, by kind."""
    begun: float
    """On this machine's monotonic clock."""
    seconds: float
    rest_seconds: float
    """Seconds from the last fault's end until everything was published."""
    writes: int
    entries: int
    redelivered: int
    replies_lost: int
    """Replies of Redis that did not reach the caller."""
    deaths: dict[str, list[int]]
    """Exit codes of the processes that ended by themselves."""
    notes: list[str]
    """Errors that no figure counts: a Job whose life stopped early, a fault that failed."""

    @property
    def is_green(self) -> bool:
        return self.verdict.is_green and not self.deaths and not self.notes


class Run:
    def __init__(self, plan: Plan, world: World, patience: float) -> None:
        """`patience`: the longest wait, in seconds, for missing events when everything works again."""
        self._patience = patience
        self._plan = plan
        self._world = world
        self._driver = Driver(
            world.bare,
            world.with_pods,
            world.kubelet,
            world.truths,
            on_node=world.devcluster,
            known=world.known,
            published=world.published,
        )
        self._faults: Counter[str] = Counter()
        self._removals: set[asyncio.Task[None]] = set()
        self._deletions: set[asyncio.Task[None]] = set()

    async def carry_out(self) -> Result:
        begun, finale = time.monotonic(), self._plan.finale
        async with asyncio.TaskGroup() as group:
            group.create_task(self._live_all(begun))
            for fault in self._plan.faults:
                if fault is not finale:
                    group.create_task(self._fail(fault, begun))
        for removal in self._removals:
            removal.cancel()
        await asyncio.gather(*self._removals, *self._deletions, return_exceptions=True)
        healed, observed, verdict = await self._heal_and_judge()
        if finale is not None and verdict.is_green:
            await self._fail(finale, begun)
            healed, observed, verdict = await self._heal_and_judge()
        world = self._world
        return Result(
            plan=self._plan,
            verdict=verdict,
            driver=self._driver,
            observed=observed,
            faults=self._faults,
            begun=begun,
            seconds=time.monotonic() - begun,
            rest_seconds=time.monotonic() - healed,
            writes=world.bare.writes + world.with_pods.writes,
            entries=world.reader.entries,
            redelivered=world.reader.redelivered,
            replies_lost=sum(door.lost for door in world.doors.doors.values()),
            deaths={part.name: part.deaths for part in world.parts.values() if part.deaths},
            notes=[*world.notes, *(f"the reader ended: {error}" for error in world.reader.errors)],
        )

    async def _live_all(self, begun: float) -> None:
        async with asyncio.TaskGroup() as group:
            for plan in self._plan.jobs:
                await asyncio.sleep(max(0.0, begun + plan.at - time.monotonic()))
                group.create_task(self._live(plan))

    async def _live(self, plan: JobPlan) -> None:
        try:
            life = await self._driver.live(plan)
            self._removals.add(asyncio.create_task(self._remove(life), name=life.name))
        except (Refused, TimeoutError) as error:
            self._world.notes.append(f"job {plan.number} ({plan.fate.name}): {error}")

    async def _remove(self, life: Life) -> None:
        if life.is_over:
            await life.act("published")
            await asyncio.sleep(TTL_SECONDS)
            # Not broken off with its removal: the API server may have deleted the Job already, unnoticed.
            deletion = asyncio.create_task(life.act("delete"), name=life.name)
            self._deletions.add(deletion)
            await asyncio.shield(deletion)

    async def _fail(self, plan: FaultPlan, begun: float) -> None:
        await asyncio.sleep(max(0.0, begun + plan.at - time.monotonic()))
        fault = FAULTS[plan.kind](self._world, plan)
        async with contextlib.AsyncExitStack() as stack:
            for lane in lanes_of(plan.kind, plan.targets):
                await stack.enter_async_context(self._world.turns[lane])
            self._faults[plan.kind] += 1
            try:
                await fault.begin()
                await asyncio.sleep(plan.seconds)
                await fault.end()
            except Exception as error:  # a fault that fails must not end the run: it is said, and healed at the end
                self._world.notes.append(f"fault {plan.number} ({plan.kind}): {type(error).__name__}: {error}")

    async def _heal_and_judge(self) -> tuple[float, Observed, Verdict]:
        """When everything works again, what was published by the time it came to rest, and what is wrong with it."""
        await heal(self._world)
        healed = time.monotonic()
        observed = await self._rest()
        return healed, observed, judge(self._driver.truths.values(), observed)

    async def _rest(self) -> Observed:
        """Waits until every event is published; returns what there is when it gives up."""
        deadline = time.monotonic() + self._patience
        await until(self._is_done, self._patience, every=1.0)
        length, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS and time.monotonic() < deadline + QUIET_SECONDS:
            now = await self._world.redis.client.xlen(looks.KEYS.events)
            if now != length:
                length, since = now, time.monotonic()
            await asyncio.sleep(0.5)
        return await self._observe()

    async def _is_done(self) -> bool:
        if await looks.behind(self._world.redis.client) or await looks.open_uids(self._world.redis.client):
            return False
        return judge(self._driver.truths.values(), await self._observe()).is_green

    async def _observe(self) -> Observed:
        world, client = self._world, self._world.redis.client
        return Observed(
            lives=[*world.lives, await looks.life(client)],
            forgettings=world.forgettings,
            received=world.reader.received,
            handled=handled(world.handled),
            records=await looks.records(client, self._driver.truths),
            open=await looks.open_uids(client),
        )
