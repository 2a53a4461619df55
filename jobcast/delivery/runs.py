"""The runs of this process: what is held, how each ends, and what Redis has yet to be told."""

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jobcast.delivery.store import End, Identity
from jobcast.delivery.target import Delivery, Ended, Place, Refused, Retry, Target

log = logging.getLogger(__name__)
REMEMBERED_SECONDS = 60.0
"""So long an end is kept after Redis took it: a failover may forget what it had acknowledged."""


@dataclass(eq=False, slots=True)
class Run:
    """One run of one target that has begun here."""

    delivery: Delivery
    target: Target
    since: float = field(default_factory=time.monotonic)
    """By the monotonic clock."""
    task: "asyncio.Task[None] | None" = None
    is_refused: bool = False
    """Another run has taken its place: how it ends is not told."""

    @property
    def identity(self) -> Identity:
        delivery = self.delivery
        return Identity(delivery.entry, delivery.key, delivery.target, delivery.token)


class Runs:
    """Begins and ends runs. `changed` is called whenever a place is free, or there is an end to tell."""

    def __init__(self, changed: Callable[[], None], buried: Callable[[str, str, str], None]) -> None:
        self._changed = changed
        self._buried = buried
        self._runs: dict[str, Run] = {}
        self._ends: dict[Identity, End] = {}
        """Not yet told."""
        self._told: deque[tuple[float, End]] = deque()
        self.held_bytes = 0

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def count(self, place: Place) -> int:
        return sum(run.target.place is place for run in self._runs.values())

    @property
    def has_ends(self) -> bool:
        return bool(self._ends)

    def begin(self, delivery: Delivery, target: Target) -> None:
        """Does nothing for a run that is here already: an answer may come twice."""
        if delivery.token in self._runs:
            return
        run = self._runs[delivery.token] = Run(delivery, target)
        self.held_bytes += len(delivery.body)
        run.task = asyncio.create_task(self._run(run), name=f"{delivery.target} {delivery.entry}")

    def refuse(self, token: str) -> None:
        """Another run has taken its place."""
        run = self._runs.get(token)
        if run is not None and run.task is not None:
            log.warning("another process has taken over a run of ours", extra={"entry": run.delivery.entry})
            run.is_refused = True
            run.task.cancel()

    def tell(self, end: End) -> None:
        """Redis is to be told this end."""
        self._ends[end.run] = end
        self._changed()

    def ends(self) -> list[End]:
        """Not yet told; call `mark_told` when they are."""
        return list(self._ends.values())

    def mark_told(self, ends: list[End]) -> None:
        now = time.monotonic()
        for end in ends:
            if self._ends.get(end.run) is end:
                del self._ends[end.run]
            self._told.append((now, end))
        while self._told and self._told[0][0] < now - REMEMBERED_SECONDS:
            self._told.popleft()

    def recent(self) -> list[End]:
        """The ends of the last minute, to be told once more to a Redis that may have forgotten them."""
        return [end for _, end in self._told]

    async def stop(self) -> None:
        """Cancel all that still run, and give their entries back."""
        runs = list(self)
        for run in runs:
            run.is_refused = True
            if run.task is not None:
                run.task.cancel()
        await asyncio.gather(*(run.task for run in runs if run.task is not None), return_exceptions=True)
        for run in runs:
            self.tell(End(run.identity, "back"))

    async def _run(self, run: Run) -> None:
        end: End | None = None
        try:
            end = await self._outcome(run)
        finally:
            del self._runs[run.delivery.token]
            self.held_bytes -= len(run.delivery.body)
            if end is not None and not run.is_refused:
                self.tell(end)
            self._changed()

    async def _outcome(self, run: Run) -> End | None:
        """What Redis is to be told; None where the run ends elsewhere."""
        delivery, target, identity = run.delivery, run.target, run.identity
        try:
            async with asyncio.timeout(target.time_limit):
                ended = await target.run(delivery)
        except Refused as error:
            return self._dead(run, str(error), "")
        except Exception as error:
            if target.place is Place.HERE and delivery.tries > target.retry.max_retries:
                trace = error.traceback if isinstance(error, Retry) else None
                return self._dead(run, _described(error, target), traceback.format_exc() if trace is None else trace)
            return self._again(run, error)
        if ended is Ended.SENT:
            return None
        if ended is Ended.BACK:
            return End(identity, "back", 1)
        return End(identity, "lost") if ended is Ended.LOST else End(identity, "done")

    @staticmethod
    def _again(run: Run, error: Exception) -> End:
        delivery, target = run.delivery, run.target
        seconds = error.seconds if isinstance(error, Retry) else target.retry.pause(max(1, delivery.tries))
        log.warning(
            "handler failed, retrying" if target.place is Place.HERE else "event not sent, retrying",
            extra={
                "handler": target.name,
                "entry": delivery.entry,
                "tries": delivery.tries,
                "error": _described(error, target),
                "seconds": round(seconds, 1),
            },
        )
        return End(run.identity, "retry", int(seconds * 1000))

    def _dead(self, run: Run, reason: str, trace: str) -> End:
        self._buried(run.delivery.entry, run.delivery.target, reason)
        return End(run.identity, "dead", run.delivery.tries, reason, trace)


def _described(error: BaseException, target: Target) -> str:
    if isinstance(error, TimeoutError) and target.time_limit is not None:
        return f"it took longer than {target.time_limit:g} s"
    try:
        return str(error) if isinstance(error, Retry) else f"{type(error).__name__}: {error}"
    except Exception:  # formatting it runs foreign code
        return f"{type(error).__name__}, without a readable text"
