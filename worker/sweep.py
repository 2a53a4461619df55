"""The slow poll: a thread that now and then compares what the cluster shows with what was told, and tells the rest.

With the controller running it finds nothing, and its count says so; with the controller off it alone tells everything.
It shares no thread, loop or connection with the stream's consumer.
"""

import asyncio
import importlib
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from jobcast.connection import ERRORS, connect_plain, explain
from jobcast.keys import Keys
from worker import metrics
from worker.settings import WorkerSettings

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
        self, settings: WorkerSettings, identity: str, sweep_once: Round, *, longest_round: float = LONGEST_ROUND
    ) -> None:
        self._url = settings.redis_url
        self._key = Keys(settings.key_prefix).sweep
        self._identity = identity
        self._every = settings.sweep_seconds
        self._round = sweep_once
        self._longest = longest_round
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[int] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
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
        if self._thread.is_alive():
            self._thread.join(5)

    def ailment(self) -> str | None:
        """What is wrong with the thread, or None. Redis or the cluster being away is not."""
        age = time.monotonic() - self._last_attempt
        if not self._thread.is_alive() and not self._stop.is_set():
            return "the thread has ended"
        if age > OVERDUE * self._every + self._longest:
            return f"no attempt for {age:.0f} s"
        return None

    def _run(self) -> None:
        # The first one soon: a worker that starts may be all there is.
        pause = min(1.0, self._every) * random.random()  # noqa: S311 - no secret
        while not self._stop.wait(pause):
            self._last_attempt = time.monotonic()
            try:
                if self._is_ours():
                    self._sweep()
            except ERRORS as error:
                log.warning("sweep put off, redis is away", extra={"error": explain(error)})
            except TimeoutError:
                log.warning("sweep given up, it took too long", extra={"seconds": self._longest})
            except asyncio.CancelledError:
                return
            except Exception as error:
                # The cluster's refusals too come this way; the next round tries again.
                log.warning("sweep failed", extra={"error": f"{type(error).__name__}: {error}"})
                log.debug("sweep failed here", exc_info=True)
            pause = self._every * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def _is_ours(self) -> bool:
        with connect_plain(self._url) as client:
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
    try:
        sweeping = importlib.import_module("jobcast.sweeping")
    except ModuleNotFoundError:
        log.warning("there is no sweep in this build")
        return None

    async def sweep_once() -> int:
        return int(await sweeping.sweep_once(settings))

    return Sweep(settings, identity, sweep_once)
