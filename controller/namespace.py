"""One namespace (or all of them): a reflector of its Jobs and one of its Pods, and which Jobs their changes put on the queue."""

import asyncio
import time
from collections.abc import Callable

from controller import metrics
from controller.reflector import Reflector, Source, WatchStatus
from controller.store import Store
from controller.workqueue import Workqueue
from jobcast.jobs.model import Job, Pod
from jobcast.kube import Change
from jobcast.reconcile.reconciler import Reconciler

QUEUE_ROOM = 500
"""The next page of a list is taken in when no more keys than this wait: as many as a page has."""
QUIET_SECONDS = 0.5
"""A Job with nothing to publish (it is new, or its Pods are being made) is reconciled at the next multiple of this, together
with others like it. By then most have started. A change of its Pods puts it on the queue at once."""


class JobStore:
    """Puts Jobs into the store and their uids onto the queue."""

    def __init__(
        self, namespace: str | None, store: Store, queue: Workqueue, reconciler: Reconciler, *, holds: bool = False
    ) -> None:
        self._namespace = namespace
        self._store = store
        self._queue = queue
        self._reconciler = reconciler
        self._holds = holds
        self._listed: set[str] = set()
        self._has_memories = True

    def begin(self) -> None:
        self._listed = set()

    async def page(self, items: list[Job]) -> None:
        if not self._listed:
            # Asked before the first Job of the list is published: later, an empty Redis is not empty any more.
            self._has_memories = await self._reconciler.has_memories()
        self._listed.update(job.uid for job in items)
        if self._has_memories:
            # What was published before we started is not worked out again, and no log is read for it.
            await self._reconciler.recall([job.uid for job in items])
        for job in items:
            self._count(job)
            is_ended = self._reconciler.is_ended(job.uid)
            if is_ended and not job.held and self._store.job(job.uid) is None:
                self._store.put_ended(job)
                continue
            # Ended, it is still reconciled: to take our finalizer off, or to drop what another replica has published since.
            if job.held or not is_ended:
                self._store.put_job(job)
            self._queue.add(job.uid)
        # The API server and the ledger are the buffer: the next page is taken in when most of this one is published.
        await self._queue.room(QUEUE_ROOM)

    def end(self, version: str) -> None:
        for uid in self._store.uids_in(self._namespace) - self._listed:
            self._remove(uid)
        self._listed = set()

    def change(self, change: Change[Job]) -> None:
        job = change.object
        assert job is not None, "the reflector keeps bookmarks to itself"
        if change.type == "DELETED":
            if self._store.job(job.uid) is not None:
                self._store.put_job(job)
            self._remove(job.uid, was_deleted=True)
        elif self._reconciler.is_ended(job.uid):
            if job.held:
                self._store.put_job(job)
                self._queue.add(job.uid)
        else:
            if change.type == "ADDED":
                self._count(job)
            self._store.put_job(job)
            has_news = job.ready or job.end or job.deleted or job.suspended or job.target
            if has_news or (self._holds and change.type == "ADDED"):
                self._queue.add(job.uid)
            else:
                self._queue.add_after(job.uid, QUIET_SECONDS - time.monotonic() % QUIET_SECONDS)

    def _remove(self, uid: str, *, was_deleted: bool = False) -> None:
        if self._store.remove_job(uid, was_deleted=was_deleted):
            self._queue.add(uid)
        else:
            self._reconciler.forget(uid)

    @staticmethod
    def _count(job: Job) -> None:
        if not job.has_eval_id:
            metrics.unnamed.inc()


class PodStore:
    """Puts Pods into the store and the uids of their Jobs onto the queue."""

    def __init__(self, namespace: str | None, store: Store, queue: Workqueue) -> None:
        self._namespace = namespace
        self._store = store
        self._queue = queue
        self._listed: set[str] = set()

    def begin(self) -> None:
        self._listed = set()

    async def page(self, items: list[Pod]) -> None:
        self._listed.update(pod.uid for pod in items)
        for pod in items:
            self._enqueue(self._store.put_pod(pod))

    def end(self, version: str) -> None:
        for pod in self._store.pods_in(self._namespace):
            if pod.uid not in self._listed:
                self._enqueue(self._store.remove_pod(pod))
        self._listed = set()
        self._store.pods_listed(self._namespace, version)

    def change(self, change: Change[Pod]) -> None:
        pod = change.object
        assert pod is not None, "the reflector keeps bookmarks to itself"
        self._store.pods_seen(self._namespace, change.version)
        self._enqueue(self._store.remove_pod(pod) if change.type == "DELETED" else self._store.put_pod(pod))

    def _enqueue(self, job_uid: str | None) -> None:
        if job_uid is not None:
            self._queue.add(job_uid)


class NamespaceWatch:
    """The two reflectors of a namespace. Pods are listed first, so that the store has a Job's Pods when it is reconciled."""

    def __init__(
        self,
        pods: tuple[Source[Pod], PodStore],
        jobs: tuple[Source[Job], JobStore],
        on_recovery: Callable[[], None],
    ) -> None:
        self.pods: Reflector[Pod] = Reflector(*pods, on_restart=_count_restart, on_recovery=on_recovery)
        self.jobs: Reflector[Job] = Reflector(
            *jobs, after=self.pods.status.synced, on_restart=_count_restart, on_recovery=on_recovery
        )

    @property
    def statuses(self) -> tuple[WatchStatus, WatchStatus]:
        return self.pods.status, self.jobs.status

    def relist(self) -> None:
        self.pods.relist()
        self.jobs.relist()

    async def wait_until_synced(self) -> None:
        await asyncio.gather(*(status.synced.wait() for status in self.statuses))


def _count_restart(reason: str) -> None:
    metrics.watch_restarts.labels(reason).inc()
