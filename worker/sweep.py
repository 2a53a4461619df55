"""The slow poll: a thread that now and then compares what the cluster shows with what was told, and tells the rest.

With the controller running it finds nothing, and its count says so; with the controller off it alone tells everything.
It shares no thread, loop or connection with the stream's consumer.
"""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from jobcast.connection import ERRORS, connect_plain, explain
from jobcast.keys import Keys
from jobcast.kube import KubeError, NoCluster
from jobcast.link import LedgerError
from jobcast.sweeping import sweep_once
from worker import metrics
from worker.settings import WorkerSettings
from worker.supervisor import Supervised

log = logging.getLogger(__name__)
Round: TypeAlias = Callable[[], Awaitable[int]]
"""One sweep of everything; how many events the fast path had missed."""

JITTER = 0.1
"""Of the interval, either way: workers that were started together do not ask together for ever."""
HELD = 0.9
"""Of the interval is how long a round keeps others from sweeping: one round an interval, whoever does it. Never all of
it, lest the one who held it last time find its own claim at the next."""
OVERDUE = 3
"""Intervals without an attempt, after which the thread counts as stuck."""
LONGEST_ROUND = 600.0
"""Seconds. A list of 100,000 Jobs takes a minute of them; a round that takes more is hung, and is given up."""


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
        self._key = Keys(settings.key_prefix).sweep
        self._identity = identity
        self._every = settings.sweep_seconds
        self._round = one_round
        self._longest = longest_round
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[int] | None = None
        self._lock = threading.Lock()
        self._thread = Supervised("sweep", self._run, self._stop)
        self._last_attempt = time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """From any thread. A round that is under way is cancelled."""
        self._stop.set()
        with self._lock:
            if self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    def stop(self) -> None:
        self.ask_to_stop()
        self._thread.join(5)

    def ailment(self) -> str | None:
        """What is wrong with the thread, or None. Redis or the cluster being away is not."""
        age = time.monotonic() - self._last_attempt
        return f"no attempt for {age:.0f} s" if age > OVERDUE * self._every + self._longest else self._thread.ailment()

    def _run(self) -> None:
        # The first one soon: a worker that starts may be all there is.
        pause = min(1.0, self._every) * random.random()  # noqa: S311 - no secret
        while not self._stop.wait(pause):
            self._last_attempt = time.monotonic()
            try:
                if self._is_ours():
                    self._sweep()
            except asyncio.CancelledError:
                return
            except TimeoutError as error:
                log.warning(
                    "sweep given up, it took too long", extra={"seconds": self._longest, "error": explain(error)}
                )
            except ERRORS as error:
                log.warning("sweep put off, redis is away", extra={"error": explain(error)})
            except self._refusals as error:
                log.warning(
                    "sweep failed, the next one tries again", extra={"error": f"{type(error).__name__}: {error}"}
                )
            self._thread.is_well()
            pause = self._every * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def _is_ours(self) -> bool:
        with connect_plain(self._settings.redis_url, prefix=self._settings.key_prefix) as client:
            held = max(1, int(self._every * HELD * (1 - JITTER)))
            return bool(client.set(self._key, self._identity, nx=True, ex=held))

    def _sweep(self) -> None:
        began = time.monotonic()
        found = asyncio.run(self._one_round())
        seconds = time.monotonic() - began
        metrics.sweep_seconds.observe(seconds)
        metrics.sweep_found.inc(found)
        if found:
            log.info("the sweep told what had been missed", extra={"count": found, "seconds": round(seconds, 3)})

    async def _one_round(self) -> int:
        async def bounded() -> int:
            async with asyncio.timeout(self._longest):
                return await self._round()

        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(bounded(), name="sweep")
            if self._stop.is_set():
                self._task.cancel()
        try:
            return await self._task
        finally:
            with self._lock:
                self._loop = self._task = None


def of(settings: WorkerSettings, identity: str) -> Sweep | None:
    """The sweep of this worker; None when it is switched off."""
    if not settings.sweep_seconds:
        return None
    return Sweep(settings, identity, lambda: sweep_once(settings), refusals=(KubeError, NoCluster, LedgerError))
