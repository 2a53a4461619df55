"""The slow poll: a thread that now and then compares what the cluster shows with what was published, and publishes the rest.

With the controller running it finds nothing, and its count says so; with the controller off it alone publishes everything.
It shares no thread, loop or connection with the stream's consumer.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from jobcast.event import Event, log_fields
from jobcast.keys import Keys
from jobcast.kube import Forbidden, KubeError, NoCluster, Unauthorized
from jobcast.ledger.trimming import Trimming
from jobcast.reconcile.sweep import sweep_once
from jobcast.redis.batcher import LedgerError
from jobcast.redis.connection import ERRORS, connect, explain
from jobcast.service.threads import Supervised
from worker import metrics
from worker.claim import SweepClaim
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)
Round: TypeAlias = Callable[[], Coroutine[None, None, int]]
"""One sweep of everything; how many events the fast path had missed."""

JITTER = 0.1
"""Of the interval, either way: workers that were started together do not sweep together for ever."""
HELD = 0.8
"""Of the interval is how long a round keeps others from sweeping, from its beginning on: one round an interval, by any worker.
Less than the shortest interval, so that the holder does not meet its own claim at the next round."""
OVERDUE = 3
"""Intervals without an attempt, after which the thread counts as stuck."""
LONGEST_ROUND = 600.0
"""Seconds, beside LOG_WAIT_SECONDS. 100,000 Jobs take a minute; a round that takes longer than this hangs and is cancelled."""
REFUSALS = (Forbidden, Unauthorized, NoCluster)
"""What an operator has to fix."""
RELEASE_SECONDS = 1.0
"""For giving back the claim, which lapses anyway; a stop waits for it."""


class GivenUp(Exception):
    """The round was ended before it was over; the text says why."""


@dataclass
class _Last:
    """What the probes show."""

    attempt: float = field(default_factory=time.monotonic)
    refusal: str | None = None
    error: str | None = None
    round: tuple[float, float, int] | None = None
    """When it ended on the monotonic clock, how many seconds it took, and what it found."""


class _CancellableTask:
    """The asyncio task of a round, for another thread to cancel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def current(self, *, is_stopping: Callable[[], bool]) -> Iterator[None]:
        """The running task is it until the block ends. Cancelled at once if it `is_stopping` already."""
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if is_stopping():
                self._cancel()
        try:
            yield
        finally:
            with self._lock:
                self._loop = self._task = None

    def cancel(self) -> None:
        """From any thread."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Sweep:
    """Start and stop it with the worker. Of several workers one sweeps an interval."""

    def __init__(
        self,
        settings: WorkerSettings,
        identity: str,
        one_round: Round,
        *,
        refusals: tuple[type[Exception], ...] = (),
        longest_round: float = LONGEST_ROUND,
    ) -> None:
        """`refusals` are what the round raises when the cluster is not there or says no."""
        self._refusals = refusals
        self._settings = settings
        self._identity = identity
        self._round = one_round
        self._longest = longest_round
        self._stop = threading.Event()
        self._thread = Supervised("sweep", self._run, self._stop, restarted=metrics.task_restarted)
        self._attempt_task = _CancellableTask()
        self._last = _Last()

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """From any thread. A round that is under way is cancelled, once: it is then giving back its claim."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._attempt_task.cancel()

    def stop(self) -> None:
        self.ask_to_stop()
        self._thread.join(5)

    def unhealthy_reason(self) -> str | None:
        """What is wrong with the thread, or None. An unreachable Redis or cluster is no fault of it."""
        age = time.monotonic() - self._last.attempt
        return (
            f"no attempt for {age:.0f} s"
            if age > OVERDUE * self._settings.sweep_seconds + self._longest
            else self._thread.unhealthy_reason()
        )

    def refusal(self) -> str | None:
        """Why the cluster refuses the sweep, or None: a permission is missing, or there is no cluster. A late answer is no
        refusal."""
        return self._last.refusal

    def status(self) -> dict[str, object]:
        """For people. Says nothing of other workers' rounds."""
        now = time.monotonic()
        last = self._last.round
        return {
            "every_seconds": self._settings.sweep_seconds,
            "seconds_since_last_attempt": round(now - self._last.attempt, 1),
            "last_round": last and {"seconds_ago": round(now - last[0], 1), "seconds": last[1], "found": last[2]},
            "error": self._last.error,
        }

    def _run(self) -> None:
        # The first one soon: a worker that starts may be all there is.
        pause = min(1.0, self._settings.sweep_seconds) * random.random()  # noqa: S311 - no secret
        while not self._stop.wait(pause):
            self._last.attempt = time.monotonic()
            try:
                asyncio.run(self._attempt())
                self._last.error = None
            except asyncio.CancelledError:
                return
            except GivenUp as error:
                self._last.error = str(error)
                log.warning("sweep cancelled", extra={"error": self._last.error})
            except ERRORS as error:
                self._last.error = explain(error)
                log.warning("sweep postponed, redis unreachable", extra={"error": self._last.error})
            except self._refusals as error:
                if isinstance(error, REFUSALS):
                    self._last.refusal = str(error)
                self._last.error = f"{type(error).__name__}: {error}"
                log.warning("sweep failed, retrying at the next interval", extra={"error": self._last.error})
            self._thread.succeeded()
            pause = self._pause()

    def _pause(self) -> float:
        """Seconds until the next attempt."""
        return self._settings.sweep_seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    async def _attempt(self) -> None:
        """A round, unless another worker has its own, or has just had it."""
        # Closed outside of what may be cancelled: else the connection would be left open.
        async with contextlib.aclosing(connect(self._settings.redis_url, prefix=self._settings.key_prefix)) as client:
            with self._attempt_task.current(is_stopping=self._stop.is_set):
                claim = SweepClaim(client, Keys(self._settings.key_prefix).sweep, self._identity)
                if await claim.take():
                    await self._sweep_with(claim)
                self._last.refusal = None  # or another worker sweeps, which will do

    async def _sweep_with(self, claim: SweepClaim) -> None:
        began = time.monotonic()
        rest = 0.0  # a round that fails is repeated by the worker that comes first
        try:
            await self._sweep(claim)
            rest = self._settings.sweep_seconds * HELD - (time.monotonic() - began)
        finally:
            with contextlib.suppress(*ERRORS):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await claim.end(rest)

    async def _sweep(self, claim: SweepClaim) -> None:
        began = time.monotonic()
        sweeping = asyncio.create_task(self._round(), name="sweep")
        keeping = asyncio.create_task(claim.keep(), name="sweep claim")
        try:
            await asyncio.wait({sweeping, keeping}, timeout=self._longest, return_when=asyncio.FIRST_COMPLETED)
            if not sweeping.done():
                raise GivenUp("another worker sweeps" if keeping.done() else f"it took {self._longest:g} s")
            found = sweeping.result()
        finally:
            sweeping.cancel()
            keeping.cancel()
            await asyncio.gather(sweeping, keeping, return_exceptions=True)
        seconds = time.monotonic() - began
        metrics.sweep_seconds.observe(seconds)
        self._last.round = (time.monotonic(), round(seconds, 3), found)
        if found:
            log.info("sweep published missed events", extra={"count": found, "seconds": round(seconds, 3)})


def note(event: Event) -> None:
    """Count and log an event that the sweep published, as the controller does with its own."""
    metrics.sweep_found.inc()
    metrics.events_by_status[event.status].inc()
    log.info("published", extra=log_fields(event))


def of(settings: WorkerSettings, identity: str) -> Sweep | None:
    """The sweep of this worker; None when it is switched off."""
    if not settings.sweep_seconds:
        return None
    trimming = Trimming(
        max_age=settings.stream_max_seconds,
        max_length=settings.stream_max_length,
        died=lambda group: log.warning(
            "consumer group is dead, trimming the stream without it", extra={"group": group}
        ),
        revived=lambda group: log.info("consumer group is active again", extra={"group": group}),
    )

    async def one_round() -> int:
        try:
            return await sweep_once(settings, trimming, published=note)
        finally:
            metrics.dead_groups.set(len(trimming.dead))

    return Sweep(
        settings,
        identity,
        one_round,
        refusals=(KubeError, NoCluster, LedgerError),
        longest_round=LONGEST_ROUND + settings.log_wait_seconds,
    )
