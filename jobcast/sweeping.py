"""The slow driver: list the Jobs once, and have the very same reconcile tell what nobody told.

One paged list of Jobs per namespace, and one of Pods where an untold Job needs them. With the controller running this
finds nothing; what it finds is the measure of how well the fast path does.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence

import redis.asyncio

from jobcast.archive.base import UNAVAILABLE
from jobcast.connection import connect
from jobcast.event import PENDING, Event
from jobcast.job import JOB_NAME_LABEL, JOB_UID_LABEL, Job, Pod
from jobcast.keys import Keys
from jobcast.kube import JOBS, PODS, Access, Api
from jobcast.ledger import CLAIM_SECONDS, Ledger
from jobcast.logbook import LogBook, Owed
from jobcast.logs import LogReads, Wanted
from jobcast.readings import open_reads
from jobcast.reconcile import Reconciler
from jobcast.settings import CoreSettings, reading_of, watched_namespaces

CONCURRENCY = 64
"""Jobs reconciled at the same time: their steps share round trips, and a sweep is in no hurry."""
KEEP_BATCH = 500
OWED_A_SWEEP = 200
"""Logs brought to the store in one round: the events come first."""


class Snapshot:
    """The cluster as one sweep listed it; the View of jobcast.reconcile."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._pods: dict[str, list[Pod]] = {}
        self._version = 0

    def add_pods(self, pods: Sequence[Pod], version: str) -> None:
        """They are listed after the Jobs, so none that a Job of ours had then is missing."""
        self._version = int(version or 0)
        for pod in pods:
            if pod.owner in self.jobs:
                self._pods.setdefault(pod.owner, []).append(pod)

    def job(self, uid: str) -> Job | None:
        return self.jobs.get(uid)

    def is_gone(self, uid: str) -> bool:
        return False  # what is gone is not in the snapshot at all

    def pods(self, uid: str) -> Sequence[Pod]:
        return self._pods.get(uid, ())

    def pods_version(self, namespace: str) -> int:
        return self._version

    def drop(self, uid: str) -> None:
        self._pods.pop(uid, None)


async def sweep_once(settings: CoreSettings, *, told: Callable[[Event], None] = lambda event: None) -> int:
    """One sweep; returns how many events it told. Raises NoCluster, KubeError, LedgerError."""
    access = await Access.find()
    async with contextlib.AsyncExitStack() as stack:
        client: redis.asyncio.Redis = connect(settings.redis_url, prefix=settings.key_prefix)
        stack.push_async_callback(client.aclose)
        ledger = await stack.enter_async_context(
            Ledger(
                client,
                Keys(settings.key_prefix),
                identity=f"sweep {socket.gethostname()}/{os.getpid()}",
                retention=settings.retention_seconds,
            )
        )
        api = await stack.enter_async_context(Api(access, reading_of(settings)))
        return await Sweep(settings, access, api, ledger, told).run(stack)


class Sweep:
    """The parts of one round. Nothing of it survives the round: a stale thought cannot outlive a minute."""

    def __init__(
        self, settings: CoreSettings, access: Access, api: Api, ledger: Ledger, told: Callable[[Event], None]
    ) -> None:
        self._namespaces = watched_namespaces(settings, access.namespace)
        self._settings = settings
        self._api = api
        self._ledger = ledger
        self._told = told
        self._count = 0
        self._read: dict[str, asyncio.Event] = {}
        self._snapshot = Snapshot()

    async def run(self, stack: contextlib.AsyncExitStack) -> int:
        settings, ledger = self._settings, self._ledger
        logs = await open_reads(stack, settings, self._api, ledger, done=self._log_was_read)
        reconciler = Reconciler(
            self._snapshot,
            self._api,
            ledger,
            logs,
            namespaces=self._namespaces,
            log_wait=settings.log_wait_seconds,
            all_logs=settings.log_containers == "all",
            looks=False,  # a sweep does not wait for what runs
            holds=settings.finalizer,
        )
        candidates: list[str] = []
        for namespace in self._namespaces or (None,):
            candidates += await self._list(namespace, reconciler)
        candidates += [uid for uid in await ledger.open_uids() if uid not in self._snapshot.jobs]
        renewing = asyncio.create_task(_renew(reconciler), name="sweep claims")
        try:
            slots = asyncio.Semaphore(CONCURRENCY)
            results = await asyncio.gather(
                *(self._drive(uid, reconciler, slots) for uid in candidates), return_exceptions=True
            )
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await reconciler.release_claims()
        await self._keep(reconciler)
        await self._bring_owed(logs)
        # One Job that fails costs the others nothing; the next sweep tries it again, and this one says so.
        for error in results:
            if isinstance(error, BaseException):
                raise error
        return self._count

    async def _list(self, namespace: str | None, reconciler: Reconciler) -> list[str]:
        """The Jobs of a namespace that may have something untold; their Pods are fetched with them."""
        untold: list[str] = []
        needs_pods = False
        async for page in self._api.pages(JOBS, namespace, self._settings.label_selector):
            await reconciler.recall([job.uid for job in page.items])
            for job in page.items:
                self._snapshot.jobs[job.uid] = job
                if not reconciler.is_ended(job.uid) or job.held:
                    untold.append(job.uid)
                    needs_pods = needs_pods or _needs_pods(job, reconciler)
        if needs_pods:
            async for pods in self._api.pages(PODS, namespace, JOB_NAME_LABEL):
                self._snapshot.add_pods(pods.items, pods.version)
        return untold

    async def _drive(self, uid: str, reconciler: Reconciler, slots: asyncio.Semaphore) -> None:
        """Reconcile until nothing is left to wait for."""
        read = self._read[uid] = asyncio.Event()
        while True:
            async with slots:
                read.clear()
                outcome = await reconciler.reconcile(uid)
            for event in outcome.told:
                self._count += 1
                self._told(event)
            if outcome.later is None:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(outcome.later):
                    await read.wait()

    def _log_was_read(self, uid: str) -> None:
        if uid in self._read:
            self._read[uid].set()

    async def _bring_owed(self, logs: LogReads) -> None:
        """Logs that the store did not take when they were read, while their Pods still exist."""
        if not logs.has_store:
            return
        book = LogBook(self._ledger, self._settings.retention_seconds)
        for owed in (await book.owed())[:OWED_A_SWEEP]:
            place = owed.place
            if self._namespaces is not None and place.namespace not in self._namespaces:
                continue
            pods = await self._api.pods_of(place.namespace, f"{JOB_UID_LABEL}={place.uid}")
            wanted = _as_it_is_now(owed, pods)
            error = await logs.bring(wanted) if wanted is not None else None
            if error is None:
                await book.settle(place)
            elif error.reason == UNAVAILABLE:
                return  # it would not take the next one either

    async def _keep(self, reconciler: Reconciler) -> None:
        """Rows of ended Jobs that the API server still shows must not expire before the Jobs do."""
        shown = [uid for uid in reconciler.ended() if uid in self._snapshot.jobs]
        for start in range(0, len(shown), KEEP_BATCH):
            await self._ledger.keep(shown[start : start + KEEP_BATCH])


def _as_it_is_now(owed: Owed, pods: Sequence[Pod]) -> Wanted | None:
    """The log, if the kubelet still has it: of a container's last instance, and of the one before."""
    place = owed.place
    for pod in pods:
        for container in (*pod.containers, *pod.init, *pod.sidecars):
            since = container.restarts - place.instance
            if (pod.uid, container.name) == (owed.pod_uid, place.container) and since in (0, 1):
                return Wanted(place, pod.uid, owed.eval_id, previous=since == 1)
    return None


def _needs_pods(job: Job, reconciler: Reconciler) -> bool:
    """Whether the Pods could say more of this Job than it says itself."""
    if job.end is not None or job.deleted is not None:
        return True
    return job.active > 0 and reconciler.told(job.uid) in (None, PENDING)


async def _renew(reconciler: Reconciler) -> None:
    while True:
        await asyncio.sleep(CLAIM_SECONDS / 3)
        await reconciler.renew_claims()
