"""What is done every second: gauges are brought up to date, memory is given back, and a stuck event loop leaves a trace."""

import asyncio
import faulthandler
import time
from collections.abc import Sequence

from controller import memory, metrics
from controller.namespace import NamespaceWatch
from controller.store import Store
from controller.workqueue import Workqueue

STUCK_SECONDS = 30.0
"""An event loop that has not turned for so long answers no probe: the kubelet is about to end us. Where it hangs is
written to stderr before that; a traceback without variables."""
BURST = 2_000
"""Reconciles within a pulse that leave memory worth giving back."""


class Housekeeping:
    """`run` is a task."""

    def __init__(self, store: Store, queue: Workqueue, scopes: Sequence[NamespaceWatch]) -> None:
        self._store = store
        self._queue = queue
        self._scopes = scopes
        self._worked = 0

    async def run(self) -> None:
        try:
            while True:
                faulthandler.dump_traceback_later(STUCK_SECONDS)
                self._beat()
                await asyncio.sleep(1)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _beat(self) -> None:
        # After a burst, as of a first list, and once: trimming takes a few milliseconds.
        if self._queue.taken - self._worked > BURST and self._queue.is_idle:
            memory.give_back()
        if self._queue.is_idle:
            self._worked = self._queue.taken
        if all(scope.is_synced for scope in self._scopes):
            self._store.trim_orphans()
        metrics.queue_depth.set(len(self._queue))
        for scope in self._scopes:
            for reflector in scope.reflectors:
                age = time.monotonic() - reflector.last_byte
                metrics.watch_age.labels(reflector.resource.name, reflector.namespace or "*").set(age)
        counts = {"pending": 0, "running": 0, "suspended": 0, "ended": self._store.ended_count}
        for job in self._store.jobs():
            counts["suspended" if job.suspended else "running" if job.ready else "pending"] += 1
        for status, count in counts.items():
            metrics.jobs.labels(status).set(count)
