"""Once a second: updates gauges, gives memory back, and arms the traceback of a stuck event loop."""

import asyncio
import faulthandler

from controller import memory, metrics
from controller.mirror import Mirror

STUCK_SECONDS = 30.0
"""An event loop that is stuck for so long answers no probe, and the kubelet will soon kill the process. Before that, stderr
gets a traceback, without variables, of where it is stuck."""
BURST = 2_000
"""Reconciles without a pause after which giving memory back is worth the time."""


class Housekeeping:
    """`run` is a task."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._taken = 0

    async def run(self) -> None:
        try:
            while True:
                faulthandler.dump_traceback_later(STUCK_SECONDS)
                self._trim_memory()
                self._set_gauges()
                await asyncio.sleep(1)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _trim_memory(self) -> None:
        queue = self._mirror.queue
        if queue.is_idle:
            # Once after a burst, such as a first list: trimming takes a few milliseconds.
            if queue.taken - self._taken > BURST:
                memory.give_back()
            self._taken = queue.taken
        if self._mirror.is_synced:
            self._mirror.store.trim_orphans()

    def _set_gauges(self) -> None:
        store = self._mirror.store
        metrics.queue_depth.set(len(self._mirror.queue))
        for status in self._mirror.statuses:
            metrics.watch_age.labels(status.resource, status.namespace).set(status.age)
        counts = {"pending": 0, "running": 0, "suspended": 0, "ended": store.ended_count}
        for job in store.jobs():
            counts["suspended" if job.suspended else "running" if job.ready else "pending"] += 1
        for status_name, count in counts.items():
            metrics.jobs.labels(status_name).set(count)
