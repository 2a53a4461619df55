"""Our finalizer, where reconcile does not get to: removals that failed, and Jobs that are held for too long.

A Job must never stay stuck because of us. Reconcile removes the finalizer when the end is published. But while Redis is down,
every reconcile and every list waits for it. So this task looks for itself: a Job that has been in deletion for `longest`
seconds, by our own clock and since we first saw it so, is released unpublished. Its end is published from memory when Redis is
up again.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Literal

from controller import metrics
from controller.mirror import Mirror
from jobcast.jobs.model import Job, Pod
from jobcast.kube import JOBS, Forbidden, KubeError, Throttled, Unauthorized, Unreachable
from jobcast.reconcile.view import Cluster

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
LIST_SECONDS = 15.0
"""How often we list while the reflectors' own lists wait for Redis: often enough for a wait of minutes."""
HOLD_AGAIN_SECONDS = 10.0
"""Until the next try to add the finalizer: the Job may not change before it ends."""
PAUSE_SECONDS = (1.0, 60.0)
"""After a removal that failed, first and longest. The cause is a missing permission or an API server that is down."""
WARNING_SECONDS = 60.0
"""A warning about a namespace is repeated no sooner: a missing permission fails for each of its Jobs."""

_Place = tuple[str, str]
"""Namespace and name."""


class Finalizers:
    """The Cluster of jobcast.reconcile.reconciler, with removals that are retried until they succeed. `run` is the task that
    does it. `redis_error` says what is wrong with Redis; None while nothing is."""

    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        *,
        longest: float,
        redis_error: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._longest = longest
        self._redis_error = redis_error
        self._clock = clock
        self._deleting_since: dict[str, float] = {}
        """When a held Job was first seen in deletion, by uid. Infinity once it is released: the watch may not show it yet."""
        self._pending: dict[str, _Place] = {}
        """Published Jobs whose finalizer is still to be removed, by uid."""
        self._listed = -LIST_SECONDS
        self._pause = _Pause()
        self._warnings = _Warnings(clock)

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
        """The Job's end is published: a removal that fails now is retried until it succeeds."""
        try:
            await self._cluster.release(namespace, name, uid)
        except KubeError as error:
            self._pending[uid] = (namespace, name)
            self._warnings.log("cannot remove finalizer", (namespace, name), error)

    def cannot_hold(self, job: Job, error: KubeError) -> None:
        metrics.errors.labels("hold").inc()
        self._mirror.queue.add_after(job.uid, HOLD_AGAIN_SECONDS)
        self._warnings.log("cannot add finalizer", (job.namespace, job.name), error)

    async def run(self) -> None:
        while True:
            await self.check()
            await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """One round. Raises no KubeError."""
        await self._list_if_watches_wait()
        now, store = self._clock(), self._mirror.store
        held = [job for job in store.jobs() if job.held and not store.is_gone(job.uid)]
        metrics.finalizers_held.set(len(held) + len(self._pending))
        deleting = {job.uid: (job.namespace, job.name) for job in held if job.deleted is not None}
        self._deleting_since = {uid: self._deleting_since.get(uid, now) for uid in deleting}
        overdue = [uid for uid, since in self._deleting_since.items() if now - since >= self._longest]
        due = {uid: deleting[uid] for uid in overdue} | self._pending
        if due and self._pause.is_over(now):
            self._pause.end() if await self._release_all(due) else self._pause.start(self._clock())

    async def _list_if_watches_wait(self) -> None:
        """Read the held Jobs in deletion. The reflectors cannot while Redis is down: a list of theirs waits until it is
        published."""
        waiting = [watch.jobs for watch in self._mirror.watches if not watch.jobs.status.is_watching]
        if not waiting or self._redis_error() is None or self._clock() - self._listed < LIST_SECONDS:
            return
        self._listed = self._clock()
        for reflector in waiting:
            try:
                async for page in reflector.source.pages():
                    for job in page.items:
                        if job.held and job.deleted is not None and self._mirror.store.job(job.uid) is None:
                            self._mirror.store.put_job(job)
                            self._mirror.queue.add(job.uid)
            except KubeError as error:
                self._warnings.log("cannot list held jobs", (reflector.status.namespace, "*"), error)

    async def _release_all(self, due: dict[str, _Place]) -> bool:
        """One after the other, to spare the API server. False if any failed."""
        is_complete = True
        for uid, place in due.items():
            try:
                await self._cluster.release(*place, uid)
            except KubeError as error:
                is_complete = False
                self._warnings.log("cannot remove finalizer", place, error)
                if isinstance(error, Unreachable | Throttled | Unauthorized):
                    return False  # the others would fail in the same way
            else:
                if self._pending.pop(uid, None) is None:
                    self._released_unpublished(uid, place)
        return is_complete

    def _released_unpublished(self, uid: str, place: _Place) -> None:
        metrics.finalizers_released_unpublished.inc()
        log.warning(
            "finalizer removed before the job was published",
            extra={
                "job": "/".join(place),
                "uid": uid,
                "seconds": round(self._clock() - self._deleting_since[uid]),
                "why": self._redis_error() or "its end is not known yet",
            },
        )
        self._deleting_since[uid] = math.inf


class _Pause:
    """Between rounds that fail; doubles each time."""

    def __init__(self) -> None:
        self._seconds, self._longest = PAUSE_SECONDS
        self._until = 0.0

    def is_over(self, now: float) -> bool:
        return now >= self._until

    def start(self, now: float) -> None:
        self._until = now + self._seconds
        self._seconds = min(self._seconds * 2, self._longest)

    def end(self) -> None:
        self._seconds = PAUSE_SECONDS[0]


class _Warnings:
    """Logs each warning about a namespace once in a while."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}
        """By text and namespace: when it was logged last, and how many were suppressed since."""

    def log(
        self,
        text: Literal["cannot add finalizer", "cannot remove finalizer", "cannot list held jobs"],
        place: _Place,
        error: KubeError,
    ) -> None:
        now, key = self._clock(), (text, place[0])
        last, suppressed = self._logged.get(key, (-WARNING_SECONDS, 0))
        if now - last < WARNING_SECONDS:
            self._logged[key] = last, suppressed + 1
            return
        self._logged[key] = now, 0
        # The server's message names the verb, the resource and the namespace. What to do about it is ours to say.
        is_forbidden = isinstance(error, Forbidden)
        needed = f"{JOBS.rule('patch')}, see k8s/components/finalizer" if is_forbidden else None
        log.warning(text, extra={"job": "/".join(place), "why": str(error), "needed": needed, "suppressed": suppressed})
