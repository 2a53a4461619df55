"""Runs the delivery engine: one thread with an event loop, and in it an engine for each consumer group.

The engine decides what runs, when and how often; Celery runs it (transport.py), or a broker carries it (handler_target.py,
route_target.py).
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import redis.asyncio

from jobcast.delivery.engine import Engine, Hooks, Options
from jobcast.delivery.target import Target
from jobcast.keys import GROUP
from jobcast.redis.connection import ERRORS, connect
from jobcast.service.membership import decode_members, latest_handlers
from jobcast.service.threads import Supervised
from worker import metrics
from worker.context import WorkerContext
from worker.handler_target import QueueTarget

log = logging.getLogger(__name__)
OVERDUE_SECONDS = 30.0
"""A round takes five seconds when nothing happens, or as long as Redis may take to answer nothing; beyond, the loop is stuck."""
LOOK_SECONDS = 10.0
"""Between two looks at the groups, for the metrics, and at the handlers of other groups."""
TURN_SECONDS = 0.1
"""Between two adjustments of how much this process takes ahead."""
LATE_SECONDS = 0.2
"""What was taken ahead and has not begun by then goes back: another process may be free."""


class Deliveries:
    """Start it with the worker. To stop, `drain` it, let the tasks end, then `stop`."""

    def __init__(
        self,
        context: WorkerContext,
        targets: Mapping[str, Sequence[Target]],
        refuse: Callable[[ValueError], object],
    ) -> None:
        """`targets` by consumer group. `refuse` ends the process: a group has data that is not to be touched."""
        self._context = context
        self._targets = targets
        self._refuse = refuse
        self._engines: dict[str, Engine] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._others: frozenset[str] = frozenset()
        """Handlers and routes of other groups, as read last."""
        self._stop = threading.Event()
        self._is_draining = False
        self._thread = Supervised("delivery", self._run, self._stop, restarted=metrics.task_restarted)
        self._began = time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> None:
        """Begin nothing any more; what runs ends by itself."""
        self._is_draining = True
        self._call(lambda engine: engine.drain())
        self._context.transport.withdraw()

    def stop(self) -> None:
        """Returns when all that ended here is told, or Redis cannot be waited for any longer. What still runs is given up."""
        self._stop.set()
        self._call(lambda engine: engine.stop())
        self._thread.join(OVERDUE_SECONDS)

    def offer(self, entry: str, handler: str, acknowledge: Callable[[], object]) -> None:
        """A message of the broker wants to begin its run here. It is acknowledged then, and when it is not to begin at all."""
        target = next((one for one in self._targets[GROUP] if one.name == handler), None)
        engine = self._engines.get(GROUP)
        if not isinstance(target, QueueTarget):
            acknowledge()  # it has no queue any more: the engine hands it out without one
        elif engine is not None and not self._is_draining:
            here = target.here
            self._call(lambda _: engine.offer(entry, here, lambda _: acknowledge()), GROUP)

    def unhealthy_reason(self) -> str | None:
        """What is wrong with the thread, or None. An unreachable Redis is no fault of it."""
        age = time.monotonic() - min([engine.last_round for engine in self._engines.values()] or [self._began])
        return f"no round for {age:.0f} s" if age > OVERDUE_SECONDS else self._thread.unhealthy_reason()

    def status(self) -> dict[str, object]:
        """For people."""
        runs = [run for engine in tuple(self._engines.values()) for run in engine.runs]
        now = time.monotonic()
        return {
            "events_in_hand": len(runs),
            "oldest_run_seconds": round(now - min(run.since for run in runs), 1) if runs else None,
            "seconds_since_last_round": round(now - max([e.last_round for e in self._engines.values()] or [now]), 1),
        }

    def _call(self, function: Callable[[Engine], None], *groups: str) -> None:
        """In the loop, for the engines of these groups, or all."""
        for group in groups or tuple(self._engines):
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(function, self._engines[group])

    # -- the thread --

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except ValueError as error:
            self._refuse(error)

    async def _main(self) -> None:
        settings = self._context.settings
        async with connect(settings.redis_url, prefix=settings.key_prefix) as client:
            self._loop = asyncio.get_running_loop()
            options = Options(1, settings.takeover_seconds, settings.stream_max_seconds)
            for group, targets in self._targets.items():
                hooks = Hooks(
                    buried=lambda *_: metrics.dead_letters.inc(),
                    reachable=self._note_redis,
                    is_elsewhere=self._is_elsewhere if group == GROUP else lambda _: True,
                )
                self._engines[group] = Engine(client, self._context.keys, group, targets, options, hooks)
            side = [self._forever(self._look, client), self._forever(self._turn)]
            tasks = [asyncio.create_task(one) for one in side]
            try:
                if self._is_draining:
                    self.drain()
                await asyncio.gather(*(engine.run() for engine in self._engines.values()))
                self._stop.set()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _forever(self, look: Callable[..., Coroutine[None, None, float]], *args: Any) -> None:
        while True:
            try:
                seconds = await look(*args)
            except ERRORS as error:
                log.debug("redis is unreachable", extra={"error": str(error)})
                seconds = 1.0
            await asyncio.sleep(seconds)

    async def _turn(self) -> float:
        """Take as much ahead as soon begins."""
        transport, engine = self._context.transport, self._engines[GROUP]
        transport.withdraw(LATE_SECONDS)
        engine.slots = min(self._context.settings.worker_prefetch, transport.room)
        metrics.oldest_run.set(max([time.monotonic() - run.since for run in engine.runs] or [0.0]))
        return TURN_SECONDS

    async def _look(self, client: "redis.asyncio.Redis") -> float:
        keys = self._context.keys
        groups = await client.xinfo_groups(keys.events)
        metrics.stream_lag.set(
            {g["name"].decode(): g["lag"] + g["pending"] for g in groups if g.get("lag") is not None}
        )
        members = decode_members((await client.hgetall(keys.parts)).values())
        handlers = {name: member.handlers[name].group for name, member in latest_handlers(members).items()}
        self._others = frozenset(name for name, group in handlers.items() if group != GROUP)
        return LOOK_SECONDS

    def _is_elsewhere(self, name: str) -> bool:
        """Whether a replay for this name is for another group: ours, or one that was registered within a day."""
        ours = (target.name for group, targets in self._targets.items() if group != GROUP for target in targets)
        return name in self._others or name in ours

    def _note_redis(self, error: Exception | None) -> None:
        if error is None:
            self._context.redis.mark_up()
            self._thread.succeeded()
        else:
            self._context.redis.mark_down(error)
