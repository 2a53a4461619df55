"""Processes of the delivery engine in one event loop, targets that are plain coroutines, and the entries they are to get."""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio
import redis.exceptions

from jobcast import wire
from jobcast.delivery.engine import DEFAULT_OPTIONS, NO_HOOKS, Engine, Hooks, Options
from jobcast.delivery.target import Delivery, Ended, Place, RetryPolicy
from jobcast.event import Event, Status
from jobcast.keys import Keys
from jobcast.redis.connection import connect
from jobcast.redis.pipeline import Pipeline
from tests.worker.workers import completed

KEYS = Keys("evaluation")
GROUP = "worker"
Run = Callable[[Delivery], Awaitable[Ended | None]]


SOON = RetryPolicy(bounds=(0.01, 0.05))


class Killed(ConnectionError):
    """What a killed process would have said reaches nobody."""


class Wire(Pipeline):
    """A connection of a process that can be killed, stopped, or lose replies."""

    is_cut = False
    lost_replies = 0.0
    """The share of exchanges whose reply is lost."""
    gate: asyncio.Event | None = None
    random = random.Random(0)

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self.gate is not None:
            await self.gate.wait()
        if self.is_cut:
            raise Killed("killed")
        replies = await super().exchange(commands)
        if self.random.random() < self.lost_replies:
            raise redis.exceptions.ConnectionError("the reply was lost")
        return replies


class Plain:
    """A target around a coroutine function."""

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        place: Place = Place.HERE,
        retry: RetryPolicy = SOON,
        rate: float = 0.0,
        time_limit: float | None = None,
    ) -> None:
        self.name = name
        self.statuses = frozenset(Status)
        self.place = place
        self.retry = retry
        self.rate = rate
        self.time_limit = time_limit
        self._run = run

    def wants(self, event: Event) -> bool:
        return True

    async def run(self, delivery: Delivery) -> Ended:
        return await self._run(delivery) or Ended.DONE


class Process:
    """An engine that runs, and can be killed."""

    def __init__(
        self, url: str, targets: list[Plain], options: Options = DEFAULT_OPTIONS, hooks: Hooks = NO_HOOKS
    ) -> None:
        self._client = connect(url)
        self.wires: list[Wire] = []
        self.engine = Engine(self._client, KEYS, GROUP, targets, options, hooks, self._wire)
        self.task = asyncio.create_task(self.engine.run())

    def _wire(self, client: Any) -> Wire:
        self.wires.append(Wire(client))
        return self.wires[-1]

    def hold(self) -> None:
        """Nothing that it says reaches Redis until `go_on`."""
        for one in self.wires:
            one.gate = asyncio.Event()

    def go_on(self) -> None:
        for one in self.wires:
            if one.gate is not None:
                one.gate.set()
            one.gate = None

    async def kill(self) -> None:
        """As kill -9: nothing that it still does reaches Redis."""
        for one in self.wires:
            one.is_cut = True
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self._client.aclose()

    async def stop(self) -> None:
        self.engine.stop()
        await self.task
        await self._client.aclose()


class Log:
    """What the targets saw, in order."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        """Target and entry."""
        self.ended: list[tuple[str, str]] = []
        self.at_once: dict[str, int] = defaultdict(int)
        self.overlaps: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def of(self, delivery: Delivery) -> Any:
        which = (delivery.target, delivery.event.eval_id)
        self.begun.append((delivery.target, delivery.entry))
        self.at_once[repr(which)] += 1
        if self.at_once[repr(which)] > 1:
            self.overlaps.append((delivery.target, delivery.entry))
        try:
            yield
            self.ended.append((delivery.target, delivery.entry))
        finally:
            self.at_once[repr(which)] -= 1

    def order_of(self, target: str) -> list[str]:
        """The entries in the order in which they ended first."""
        return list(dict.fromkeys(entry for name, entry in self.ended if name == target))


@asynccontextmanager
async def processes(
    url: str, targets: list[Plain], count: int = 1, options: Options = DEFAULT_OPTIONS, hooks: Hooks = NO_HOOKS
) -> AsyncIterator[list[Process]]:
    """So many processes; those that still run at the end are stopped in good order."""
    started = [Process(url, targets, options, hooks) for _ in range(count)]
    try:
        yield started
    finally:
        await asyncio.gather(*(process.stop() for process in started if not process.task.done()))


async def add(client: "redis.asyncio.Redis", *eval_ids: str, output: str = "42") -> list[str]:
    """Entries of these evaluations, in this order."""
    entries = []
    for eval_id in eval_ids:
        event = completed(eval_id, output)
        fields: Any = {"id": event.id, "status": event.status, "eval_id": eval_id, "event": wire.encode(event)}
        entries.append((await client.xadd(KEYS.events, fields)).decode())
    return entries


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)


async def backlog(client: "redis.asyncio.Redis") -> int:
    """Entries that the group has not acknowledged."""
    for info in await client.xinfo_groups(KEYS.events):
        if info["name"] == GROUP.encode():
            return int(info["pending"]) + int(info["lag"] or 0)
    return await client.xlen(KEYS.events)


async def is_empty(client: "redis.asyncio.Redis") -> bool:
    """Everything has ended, and nothing is left behind."""
    if await backlog(client):
        return False
    left = [key async for key in client.scan_iter(f"{KEYS.beginning}*")]
    names = {key.decode().removeprefix(KEYS.beginning).split(":")[0] for key in left}
    return not names & {"queue", "keys", "tries"}


async def dead_letters(client: "redis.asyncio.Redis") -> list[dict[str, str]]:
    return [
        {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        for _, fields in await client.xrange(KEYS.dead)
    ]


async def jump(client: "redis.asyncio.Redis", seconds: float) -> None:
    """For the scripts the clock is so much later, in one leap: as after a failover to a server whose clock is ahead."""
    now, micros = await client.time()
    await client.hset(KEYS.pulse(GROUP), "at", int(now * 1000 + micros / 1000 + seconds * 1000))
