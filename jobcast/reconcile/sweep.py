"""The slow driver: list all Jobs once, and reconcile those with something unpublished.

One paged list of Jobs per namespace, and the Pods of the unpublished Jobs. With the controller running it finds nothing: what it
finds measures how well the controller works. It also does the upkeep of Redis: it trims the streams and repairs the index.
"""

import asyncio
import contextlib
import math
import os
import random
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import redis.asyncio

from jobcast.event import PENDING, Event
from jobcast.jobs.model import JOB_NAME_LABEL, Job, Pod
from jobcast.keys import Keys
from jobcast.kube import JOBS, PODS, Access, Api
from jobcast.ledger.index import is_repair_due, repair_index
from jobcast.ledger.ledger import CLAIM_SECONDS, Ledger, Row
from jobcast.ledger.trimming import Trimming
from jobcast.logs.index import LogIndex, PendingUpload
from jobcast.logs.plan import LogPlan, open_reads
from jobcast.logs.proof import Wanted
from jobcast.logs.reader import LogReads
from jobcast.logstore.base import UNAVAILABLE
from jobcast.logstore.retention import start_removing_expired
from jobcast.reconcile.reconciler import Hooks, Options, Reconciler
from jobcast.redis.batcher import LedgerError
from jobcast.redis.connection import connect
from jobcast.service.settings import CoreSettings, reading_of, watched_namespaces

CONCURRENCY = 64
"""Jobs reconciled at the same time: their steps share round trips, and a sweep is not urgent."""
BATCH = 2000
"""Jobs in memory at the same time, including those that wait for their logs: 100,000 would need 300 MB."""
KEEP_BATCH = 500
UPLOADS_PER_SWEEP = 200
"""Pending logs that one sweep uploads: events come first."""
FEW = 20
"""Up to so many Jobs, their Pods are requested one by one: fewer requests than the pages of a namespace with 10,000 Pods."""
FAST_PATH_SECONDS = 1.0
"""What the controller publishes within it was not missed: it is a thousand times what publishing takes."""


class Snapshot:
    """The cluster as one sweep listed it, as a View."""

    def __init__(self) -> None:
        self.shown: set[str] = set()
        """The uids of all Jobs that were listed."""
        self.jobs: dict[str, Job] = {}
        """Those that may have something unpublished."""
        self._pods: dict[str, list[Pod]] = {}
        self._versions: dict[str, int] = {}

    def add_pods(self, pods: Sequence[Pod]) -> None:
        for pod in pods:
            if pod.owner in self.jobs:
                self._pods.setdefault(pod.owner, []).append(pod)

    def all_pods_listed(self, namespaces: Collection[str], version: str) -> None:
        """They were listed after the Jobs, so no Pod that a listed Job had then is missing."""
        self._versions.update(dict.fromkeys(namespaces, int(version or 0)))

    def job(self, uid: str) -> Job | None:
        return self.jobs.get(uid)

    def is_gone(self, uid: str) -> bool:
        return False  # the snapshot has no Jobs that are gone

    def was_deleted(self, uid: str) -> bool:
        return False

    def pods(self, uid: str) -> Sequence[Pod]:
        return self._pods.get(uid, ())

    def pods_version(self, namespace: str) -> int:
        return self._versions.get(namespace, 0)

    def has_seen_pods(self, namespace: str) -> bool:
        return any(pods[0].namespace == namespace for pods in self._pods.values())

    def drop(self, uid: str) -> None:
        self.jobs.pop(uid, None)
        self._pods.pop(uid, None)


async def sweep_once(
    settings: CoreSettings, trimming: Trimming | None = None, *, published: Callable[[Event], None] = lambda event: None
) -> int:
    """Returns how many events it published. Does the upkeep of Redis first, also if the cluster is unreachable.

    Raises NoCluster, KubeError, LedgerError.
    """
    async with contextlib.AsyncExitStack() as stack:
        client: redis.asyncio.Redis = connect(settings.redis_url, prefix=settings.key_prefix)
        stack.push_async_callback(client.aclose)
        ledger = await stack.enter_async_context(
            Ledger(
                client,
                Keys(settings.key_prefix),
                identity=f"sweep {socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}",
                retention=settings.retention_seconds,
            )
        )
        refusal = await _upkeep(ledger, settings, trimming)
        access = await Access.find()
        api = await stack.enter_async_context(Api(access, reading_of(settings)))
        count = await Sweep(settings, access, api, ledger, published).run(stack)
        if refusal is not None:
            raise refusal
        return count


async def _upkeep(ledger: Ledger, settings: CoreSettings, trimming: Trimming | None) -> LedgerError | None:
    """Trims the streams and repairs the index. Returns the error if Redis rejects a command (a key of another type): it must not prevent publishing."""
    try:
        if trimming is not None:
            await trimming.trim(ledger)
        if await is_repair_due(ledger):
            await repair_index(ledger)
            if settings.log_store.startswith("file://"):
                start_removing_expired(Path(settings.log_store.removeprefix("file://")), settings.retention_seconds)
    except LedgerError as error:
        return error
    return None


class Sweep:
    """One sweep. It keeps no state for the next one, so nothing stale can last."""

    def __init__(
        self, settings: CoreSettings, access: Access, api: Api, ledger: Ledger, published: Callable[[Event], None]
    ) -> None:
        self._namespaces = watched_namespaces(settings, access.namespace)
        self._settings = settings
        self._api = api
        self._ledger = ledger
        self._published = published
        self._count = 0
        self._read: dict[str, asyncio.Event] = {}
        self._snapshot = Snapshot()
        self._version = math.inf
        """The oldest version of the lists: a Job that is not in them was gone by then, or is newer."""

    async def run(self, stack: contextlib.AsyncExitStack) -> int:
        settings, ledger, snapshot = self._settings, self._ledger, self._snapshot
        logs = await open_reads(stack, settings, self._api, ledger, done=self._log_was_read)
        reconciler = Reconciler(
            snapshot,
            self._api,
            ledger,
            # A sweep does not wait for what runs.
            LogPlan(logs, all_logs=settings.log_containers == "all", watches_rotation=False),
            Options(namespaces=self._namespaces, log_wait=settings.log_wait_seconds, holds=settings.finalizer),
            Hooks(published=self._count_published),
        )
        for namespace in self._namespaces or (None,):
            await self._list(namespace, reconciler)
        listed = asyncio.get_running_loop().time()
        unseen = await self._open_unseen()
        if any(_is_unpublished(job, reconciler) for job in snapshot.jobs.values()):
            await asyncio.sleep(FAST_PATH_SECONDS)
            await self._recall(reconciler)
        await self._list_pods(reconciler)
        renewing = asyncio.create_task(_renew_claims(reconciler), name="sweep claims")
        try:
            errors = await self._drive_all(list(snapshot.jobs), reconciler)
            if unseen:
                # A replica that saw how they ended may still be reading their logs, and publish the true end.
                patience = settings.log_wait_seconds + FAST_PATH_SECONDS
                await asyncio.sleep(listed + patience - asyncio.get_running_loop().time())
                errors += await self._drive_all(list(unseen & await self._open_unseen()), reconciler)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await reconciler.claims.release()
        await self._keep_rows(reconciler)
        await self._upload_pending(logs)
        # An error of one Job does not affect the others. The next sweep tries it again, and this one reports it.
        for error in errors:
            raise error
        return self._count

    async def _list(self, namespace: str | None, reconciler: Reconciler) -> None:
        """The Jobs of a namespace, without those whose end the ledger has."""
        async for page in self._api.pages(JOBS, namespace, self._settings.label_selector):
            self._version = min(self._version, int(page.version or 0))
            await reconciler.recall([job.uid for job in page.items])
            for job in page.items:
                self._snapshot.shown.add(job.uid)
                if not reconciler.is_ended(job.uid) or job.held:
                    self._snapshot.jobs[job.uid] = job

    async def _recall(self, reconciler: Reconciler) -> None:
        """Ask again what was published, and drop the Jobs that have ended by now."""
        jobs = self._snapshot.jobs
        await reconciler.recall([uid for uid, job in jobs.items() if _is_unpublished(job, reconciler)])
        for uid, job in list(jobs.items()):
            if reconciler.is_ended(uid) and not job.held:
                self._snapshot.drop(uid)

    async def _list_pods(self, reconciler: Reconciler) -> None:
        needing = [job for job in self._snapshot.jobs.values() if _is_unpublished(job, reconciler)]
        if len(needing) <= FEW:
            for job in needing:
                self._snapshot.add_pods(await self._api.pods_of(job.namespace, job.pod_selector))
            return
        namespaces = {job.namespace for job in needing}
        selector = "" if any(job.selector for job in needing) else JOB_NAME_LABEL
        for namespace in namespaces if self._namespaces is not None else (None,):
            async for page in self._api.pages(PODS, namespace, selector):
                self._snapshot.add_pods(page.items)
            self._snapshot.all_pods_listed(namespaces if namespace is None else (namespace,), page.version)

    async def _open_unseen(self) -> set[str]:
        """The Jobs of our namespaces that are open in the ledger and were gone when we listed."""
        uids = await self._ledger.open_uids()
        for uid in uids:
            if uid in self._snapshot.shown and uid not in self._snapshot.jobs:
                await self._ledger.forget_open(uid)  # it has its end
        rows = await self._ledger.rows([uid for uid in uids if uid not in self._snapshot.shown])
        return {uid for uid, row in rows.items() if row is None or self._is_for_us(row)}

    def _is_for_us(self, row: Row) -> bool:
        # A row with a later version than the list's: the Job was created after it, or has lost its label since.
        is_ours = self._namespaces is None or row.namespace in self._namespaces
        return is_ours and (row.is_ended or row.version <= self._version)

    async def _drive_all(self, uids: Sequence[str], reconciler: Reconciler) -> list[BaseException]:
        """Returns the errors."""
        slots = asyncio.Semaphore(CONCURRENCY)
        errors: list[BaseException] = []
        for start in range(0, len(uids), BATCH):
            results = await asyncio.gather(
                *(self._drive(uid, reconciler, slots) for uid in uids[start : start + BATCH]), return_exceptions=True
            )
            errors += [error for error in results if error is not None]
        return errors

    async def _drive(self, uid: str, reconciler: Reconciler, slots: asyncio.Semaphore) -> None:
        """Reconcile until nothing is left to wait for."""
        read = self._read[uid] = asyncio.Event()
        while True:
            async with slots:
                read.clear()
                outcome = await reconciler.reconcile(uid)
            if outcome.later is None:
                del self._read[uid]
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(outcome.later):
                    await read.wait()

    def _count_published(self, event: Event) -> None:
        self._count += 1
        self._published(event)

    def _log_was_read(self, uid: str) -> None:
        if uid in self._read:
            self._read[uid].set()

    async def _upload_pending(self, logs: LogReads) -> None:
        """Upload logs that the store did not take when they were read, if their Pods still exist."""
        if not logs.has_store:
            return
        index, ours = LogIndex(self._ledger, self._settings.retention_seconds), self._namespaces
        found = [one for one in await index.pending_uploads() if ours is None or one.place.namespace in ours]
        # At random, because the store may take none of the first ones.
        for pending in random.sample(found, min(UPLOADS_PER_SWEEP, len(found))):
            place = pending.place
            pods = await self._api.pods_of(place.namespace, "", name=place.pod)
            wanted = _log_of(pending, pods)
            error = await logs.upload_pending(wanted) if wanted is not None else None
            if error is None:
                await index.mark_uploaded(place)
            elif error.reason == UNAVAILABLE:
                return  # the store is down

    async def _keep_rows(self, reconciler: Reconciler) -> None:
        """Rows of ended Jobs must not expire before the API server deletes the Jobs."""
        shown = [uid for uid in reconciler.ended_uids() if uid in self._snapshot.shown]
        for start in range(0, len(shown), KEEP_BATCH):
            await self._ledger.keep(shown[start : start + KEEP_BATCH])


def _log_of(pending: PendingUpload, pods: Sequence[Pod]) -> Wanted | None:
    """The log, if the kubelet still has it: of a container's last instance, or of the one before."""
    place = pending.place
    for pod in pods:
        for container in (*pod.containers, *pod.init, *pod.sidecars):
            since = container.restarts - place.instance
            if (pod.uid, container.name) == (pending.pod_uid, place.container) and since in (0, 1):
                return Wanted(place, pod.uid, pending.eval_id, previous=since == 1)
    return None


def _is_unpublished(job: Job, reconciler: Reconciler) -> bool:
    """Whether something of this Job may be unpublished."""
    if reconciler.is_ended(job.uid):
        return False
    if job.end is not None or job.deleted is not None:
        return True
    return job.active > 0 and reconciler.last_published(job.uid) in (None, PENDING)


async def _renew_claims(reconciler: Reconciler) -> None:
    while True:
        await asyncio.sleep(CLAIM_SECONDS / 3)
        await reconciler.claims.renew()
