"""Our finalizer, where reconcile does not get to: releases that failed, and Jobs that are held for too long.

A Job must never stay stuck because of us. Reconcile takes the finalizer off when the end is published; but while Redis is away
every reconcile waits for it, and so does every list. So this task looks by itself: a Job that has been in deletion for
`longest` seconds, by our own clock and since we saw it so, goes unpublished, and its end is published from memory when Redis is back.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

import structlog

from controller import metrics
from controller.namespace import NamespaceWatch
from controller.store import Store
from controller.workqueue import Workqueue
from jobcast.jobs.model import Job, Pod
from jobcast.kube import Forbidden, KubeError, Throttled, Unauthorized, Unreachable
from jobcast.reconcile.view import Cluster

log = structlog.get_logger()

LOOK_SECONDS = 1.0
LIST_SECONDS = 15.0
"""How often we list for ourselves while the reflectors' own lists wait for Redis. For a wait of minutes, often enough."""
HOLD_AGAIN_SECONDS = 10.0
"""After a Job could not be held: it may say nothing more until it ends."""
PAUSE_SECONDS = (1.0, 60.0)
"""After a release that failed, first and longest: what stands in its way is a missing rule or a server that is away."""
SILENCE_SECONDS = 60.0
"""A complaint about a namespace is not repeated sooner: a missing rule fails every Job of it."""

_Place = tuple[str, str]
"""Namespace and name."""


class Finalizers:
    """The Cluster of jobcast.reconcile.reconciler, with releases that are seen through. `run` is the task that does it.

    `trouble` says what is wrong with Redis; None while nothing is.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        queue: Workqueue,
        scopes: Sequence[NamespaceWatch],
        *,
        longest: float,
        trouble: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._queue = queue
        self._scopes = scopes
        self._longest = longest
        self._trouble = trouble
        self._clock = clock
        self._since: dict[str, float] = {}
        """When a Job was first seen in deletion and held, by uid."""
        self._owed: dict[str, _Place] = {}
        """Jobs that are published and whose release failed, by uid."""
        self._let_go: set[str] = set()
        """Jobs that went unpublished; the watch may not show it yet."""
        self._listed = -LIST_SECONDS
        self._not_before = 0.0
        self._pause = PAUSE_SECONDS[0]
        self._complaints: dict[tuple[str, str], tuple[float, int]] = {}
        """By what cannot be done and where: when it was said last, and how often it was not said since."""

    async def job(self, namespace: str, name: str) -> Job | None:
        return await self._cluster.job(namespace, name)

    async def pods_of(self, namespace: str, selector: str) -> list[Pod]:
        return await self._cluster.pods_of(namespace, selector)

    def now(self) -> str:
        return self._cluster.now()

    async def hold(self, namespace: str, name: str, uid: str) -> None:
        """Raises KubeError, and reconcile publishes the Job all the same; see `cannot_hold`."""
        await self._cluster.hold(namespace, name, uid)

    async def release(self, namespace: str, name: str, uid: str) -> None:
        """The Job's end is published: what fails now is tried again until it succeeds."""
        try:
            await self._cluster.release(namespace, name, uid)
        except KubeError as error:
            self._owed[uid] = (namespace, name)
            self._complain("the finalizer cannot be taken off", (namespace, name), error)

    def cannot_hold(self, job: Job, error: KubeError) -> None:
        metrics.errors.labels("hold").inc()
        self._queue.add_after(job.uid, HOLD_AGAIN_SECONDS)
        self._complain("the finalizer cannot be put on", (job.namespace, job.name), error)

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """One round; raises nothing of the API server's."""
        await self._list_if_nobody_does()
        now = self._clock()
        held = [job for job in self._store.jobs() if job.held and not self._store.is_gone(job.uid)]
        metrics.finalizers_held.set(len(held) + len(self._owed))
        going = {job.uid: job for job in held if job.deleted is not None}
        self._since = {uid: self._since.get(uid, now) for uid in going}
        self._let_go &= going.keys()
        overdue = [job for uid, job in going.items() if now - self._since[uid] >= self._longest]
        due = {job.uid: (job.namespace, job.name) for job in overdue if job.uid not in self._let_go} | self._owed
        if not due or now < self._not_before:
            return
        if await self._release_all(due):
            self._pause = PAUSE_SECONDS[0]
        else:
            self._not_before = self._clock() + self._pause
            self._pause = min(self._pause * 2, PAUSE_SECONDS[1])

    async def _list_if_nobody_does(self) -> None:
        """Take in what is held and in deletion, which the reflectors cannot: their lists are taken in as they are published."""
        waiting = [scope.jobs for scope in self._scopes if not scope.jobs.is_watching]
        if not waiting or self._trouble() is None or self._clock() - self._listed < LIST_SECONDS:
            return
        self._listed = self._clock()
        for reflector in waiting:
            try:
                async for page in reflector.pages():
                    for job in page.items:
                        if job.held and job.deleted is not None and self._store.job(job.uid) is None:
                            self._store.put_job(job)
                            self._queue.add(job.uid)
            except KubeError as error:
                self._complain("held jobs cannot be listed", (reflector.namespace or "*", "*"), error)

    async def _release_all(self, due: dict[str, _Place]) -> bool:
        """One after the other, to be gentle. False if any failed."""
        is_good = True
        for uid, place in due.items():
            try:
                await self._cluster.release(*place, uid)
            except KubeError as error:
                is_good = False
                self._complain("the finalizer cannot be taken off", place, error)
                if isinstance(error, Unreachable | Throttled | Unauthorized):
                    return False  # the others would fare no better
            else:
                if self._owed.pop(uid, None) is None:
                    self._went_untold(uid, place)
        return is_good

    def _went_untold(self, uid: str, place: _Place) -> None:
        self._let_go.add(uid)
        metrics.finalizers_released_unpublished.inc()
        log.warning(
            "let go of a job that is not published yet",
            job="/".join(place),
            uid=uid,
            seconds=round(self._clock() - self._since[uid]),
            why=self._trouble() or "its end is still being worked out",
        )

    def _complain(
        self,
        what: Literal[
            "the finalizer cannot be put on", "the finalizer cannot be taken off", "held jobs cannot be listed"
        ],
        place: _Place,
        error: KubeError,
    ) -> None:
        now = self._clock()
        key = (what, place[0])
        said, unsaid = self._complaints.get(key, (-SILENCE_SECONDS, 0))
        if now - said < SILENCE_SECONDS:
            self._complaints[key] = said, unsaid + 1
            return
        self._complaints[key] = now, 0
        # The server's own words name the verb, the resource and the namespace; what is to be done about it is ours.
        needed = (
            "verb patch on jobs in its Role, see k8s/components/finalizer" if isinstance(error, Forbidden) else None
        )
        log.warning(what, job="/".join(place), why=str(error), needed=needed, others=unsaid)
