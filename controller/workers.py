"""Runs reconciles, so many at a time, and turns the outcome of each into when its key is due again."""

import asyncio
import logging

from controller import metrics
from controller.mirror import Mirror
from jobcast.event import Event, log_fields
from jobcast.kube import KubeError
from jobcast.reconcile.reconciler import Reconciler
from jobcast.redis.batcher import LedgerError

log = logging.getLogger(__name__)

WORKERS = 128
"""Reconciles at the same time: their steps share round trips. More of them cost memory and made the start no faster."""


class Workers:
    """`tasks` are to be run by a supervisor."""

    def __init__(self, reconciler: Reconciler, mirror: Mirror) -> None:
        self._reconciler = reconciler
        self._queue = mirror.queue
        self._store = mirror.store
        self.tasks = {f"reconcile {number}": self._reconcile_forever for number in range(WORKERS)}

    async def finish(self, seconds: float) -> None:
        """Returns when every key was reconciled, or after so many seconds: Redis may be down."""
        until = asyncio.get_running_loop().time() + seconds
        while not self._queue.is_idle and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.01)
        self._queue.close()

    async def _reconcile_forever(self) -> None:
        queue, loop = self._queue, asyncio.get_running_loop()
        while True:
            uid, added = await queue.get()
            started = loop.time()
            try:
                outcome = await self._reconciler.reconcile(uid)
            except (KubeError, LedgerError) as error:
                queue.retry(uid, shared=isinstance(error, KubeError))
                self._failed(uid, error, type(error).__name__)
            except Exception as error:
                # A mistake of ours, or a Job like no other: the workers of the others must go on.
                queue.retry(uid)
                log.exception("reconcile failed", extra={"uid": uid})
                self._failed(uid, error, "unexpected")
            else:
                queue.forget(uid)
                if outcome.later is not None:
                    queue.add_after(uid, outcome.later)
                if outcome.published:
                    metrics.latency.observe(loop.time() - added)
            finally:
                metrics.reconcile.observe(loop.time() - started)
                queue.done(uid)

    def _failed(self, uid: str, error: Exception, kind: str) -> None:
        metrics.errors.labels(kind.lower()).inc()
        job = self._store.job(uid)
        name = f"{job.namespace}/{job.name}" if job else None
        log.warning("reconcile failed, retrying", extra={"uid": uid, "job": name, "why": str(error)})


def count_and_log(event: Event) -> None:
    """For each event that was published."""
    metrics.events_by_status[event.status].inc()
    if event.warnings and event.status.is_terminal:  # once a Job
        metrics.warnings.inc()
        name = f"{event.job.namespace}/{event.job.name}"
        log.warning("job has invalid annotations", extra={"job": name, "warnings": list(event.warnings)})
    log.info("published", extra=log_fields(event))
