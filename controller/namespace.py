"""One namespace (or all of them): a reflector of its Jobs and one of its Pods, and what their news mean for the queue."""

import asyncio
import time
from collections.abc import Callable

from controller import metrics
from controller.reflector import Reflector
from controller.store import Store
from controller.workqueue import Workqueue
from jobcast.jobs.model import JOB_NAME_LABEL, Job, Pod
from jobcast.kube import JOBS, PODS, Api, Change
from jobcast.reconcile.reconciler import Reconciler

QUEUE_ROOM = 500
"""A page of a list is worked on when no more keys than this wait before it: as many as a page has."""


QUIET_SECONDS = 0.5
"""A Job that says nothing that would be published (it is new, or its Pods are being made) is looked at when the next multiple of
this comes round, together with the others; by then most have started, and what its Pods do wakes it at once."""


class JobStore:
    """Jobs into the store, and their uids onto the queue."""

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
            # Asked before the first Job of the list is published: an empty Redis fills while we publish.
            self._has_memories = await self._reconciler.has_memories()
        self._listed.update(job.uid for job in items)
        if self._has_memories:
            # What was published before we came is not worked out again, nor are logs read again for it.
            await self._reconciler.recall([job.uid for job in items])
        for job in items:
            self._note(job)
            if self._reconciler.is_ended(job.uid):
                if job.held:
                    self._store.put_job(job)  # nobody has taken our finalizer off
                    self._queue.add(job.uid)
                elif self._store.job(job.uid) is None:
                    self._store.put_ended(job)
                else:
                    self._queue.add(job.uid)  # another replica published it: what is kept of it here is let go
                continue
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
        assert job is not None, "a bookmark is the reflector's"
        if change.type == "DELETED":
            if self._store.job(job.uid) is not None:
                self._store.put_job(job)
            self._remove(job.uid)
        elif self._reconciler.is_ended(job.uid):
            if job.held:
                self._store.put_job(job)
                self._queue.add(job.uid)
        else:
            if change.type == "ADDED":
                self._note(job)
            self._store.put_job(job)
            says_something = job.ready or job.end or job.deleted or job.suspended or job.target
            if says_something or (self._holds and change.type == "ADDED"):
                self._queue.add(job.uid)
            else:
                self._queue.add_after(job.uid, QUIET_SECONDS - time.monotonic() % QUIET_SECONDS)

    def _remove(self, uid: str) -> None:
        if self._store.remove_job(uid):
            self._queue.add(uid)
        else:
            self._reconciler.forget(uid)

    @staticmethod
    def _note(job: Job) -> None:
        if not job.has_eval_id:
            metrics.unnamed.inc()


class PodStore:
    """Pods into the store, and the uids of their Jobs onto the queue."""

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
            self._publish(self._store.put_pod(pod))

    def end(self, version: str) -> None:
        for pod in self._store.pods_in(self._namespace):
            if pod.uid not in self._listed:
                self._publish(self._store.remove_pod(pod))
        self._listed = set()
        self._store.pods_listed(self._namespace, version)

    def change(self, change: Change[Pod]) -> None:
        pod = change.object
        assert pod is not None, "a bookmark is the reflector's"
        self._store.pods_seen(self._namespace, change.version)
        self._publish(self._store.remove_pod(pod) if change.type == "DELETED" else self._store.put_pod(pod))

    def _publish(self, job_uid: str | None) -> None:
        if job_uid is not None:
            self._queue.add(job_uid)


class NamespaceWatch:
    """The two reflectors of a namespace. Pods are listed first, so that a Job finds its own when its turn comes."""

    def __init__(
        self,
        api: Api,
        namespace: str | None,
        selector: str,
        store: Store,
        queue: Workqueue,
        reconciler: Reconciler,
        restarted: Callable[[str], None],
        *,
        holds: bool = False,
    ) -> None:
        pods = PodStore(namespace, store, queue)
        self.pods: Reflector[Pod] = Reflector(
            api, PODS, namespace, JOB_NAME_LABEL, pods, restarted=restarted, well=queue.release
        )
        self.jobs: Reflector[Job] = Reflector(
            api,
            JOBS,
            namespace,
            selector,
            JobStore(namespace, store, queue, reconciler, holds=holds),
            after=self.pods.synced,
            restarted=restarted,
            well=queue.release,
        )

    @property
    def is_synced(self) -> bool:
        return self.pods.synced.is_set() and self.jobs.synced.is_set()

    @property
    def reflectors(self) -> tuple[Reflector[Pod], Reflector[Job]]:
        return self.pods, self.jobs

    def relist(self) -> None:
        for reflector in self.reflectors:
            reflector.relist()

    async def synced(self) -> None:
        await asyncio.gather(self.pods.synced.wait(), self.jobs.synced.wait())
