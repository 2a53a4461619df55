"""Reconciles: so many at a time, each key's outcome translated into when it is due again."""

import asyncio

import structlog

from controller import metrics
from controller.store import Store
from controller.workqueue import Workqueue
from jobcast.event import Event, log_fields
from jobcast.kube import KubeError
from jobcast.reconcile.reconciler import Reconciler
from jobcast.redis.batcher import LedgerError

log = structlog.get_logger()

WORKERS = 128
"""Reconciles at the same time: their steps share round trips. More of them made the start no faster, and cost memory."""


class Workers:
    """`tasks` are to be run by a supervisor."""

    def __init__(self, reconciler: Reconciler, queue: Workqueue, store: Store) -> None:
        self._reconciler = reconciler
        self._queue = queue
        self._store = store
        self.tasks = {f"reconcile {number}": self._reconcile_forever for number in range(WORKERS)}

    async def finish(self, seconds: float) -> None:
        """Returns when nothing is in hand any more, or after so long: a Redis that is away is not waited for longer."""
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
                # Our own mistake, or a Job like no other: it must not take the others' workers with it.
                queue.retry(uid)
                log.exception("reconcile failed", uid=uid)
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
        log.warning(
            "reconcile is tried again", uid=uid, job=f"{job.namespace}/{job.name}" if job else None, why=str(error)
        )


def note(event: Event) -> None:
    """Of an event that was published: counts it, and says so."""
    metrics.events_by_status[event.status].inc()
    if event.warnings and event.status.is_terminal:  # once a Job
        metrics.warnings.inc()
        log.warning(
            "the Job is not as it says", job=f"{event.job.namespace}/{event.job.name}", warnings=list(event.warnings)
        )
    log.info("published", **log_fields(event))
