"""Which logs of a Job are to be read, and what is known of those that were.

    main container     every instance, as it ends
    init containers,   those of an attempt that failed; of every attempt where the setting says so
    sidecars, others

A container that is being killed is followed to its end: the kubelet drops the log of a Pod that is being deleted as soon as
its containers have ended.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack

from jobcast.event import Log
from jobcast.jobs.facts import LogRead
from jobcast.jobs.model import Container, Job, Pod, main_container
from jobcast.jobs.observation import PodOutcome, is_of_a_former_start, pod_outcome
from jobcast.kube import Api
from jobcast.ledger.ledger import Ledger
from jobcast.logs.index import LogIndex
from jobcast.logs.reader import STORE_SECONDS, LogReads, Wanted
from jobcast.logs.rotation import Key, Rotation
from jobcast.logstore import open_log_store
from jobcast.logstore.base import LogPlace
from jobcast.service.settings import CoreSettings


async def open_reads(
    stack: AsyncExitStack,
    settings: CoreSettings,
    api: Api,
    ledger: Ledger,
    *,
    done: Callable[[str], None],
    seen: Callable[[Log], None] = lambda log: None,
) -> LogReads:
    """The reads as an installation is set up, closed with the stack."""
    index = LogIndex(ledger, settings.retention_seconds)
    store = open_log_store(settings.log_store, put=index.put, limit=settings.log_store_limit_bytes)
    if store is not None:
        stack.push_async_callback(store.aclose)
    rotation = await stack.enter_async_context(Rotation(api, index))
    reads = LogReads(
        api,
        excerpt_bytes=settings.log_excerpt_bytes,
        concurrency=settings.log_concurrency,
        done=done,
        store=store,
        index=index,
        rotation=rotation,
        # While Redis is away no event leaves either, so a log that goes there is waited for.
        store_seconds=None if settings.log_store == "redis" else STORE_SECONDS,
        seen=seen,
    )
    return await stack.enter_async_context(reads)


class LogPlan:
    """The logs of Jobs, as reconcile asks for them."""

    def __init__(self, reads: LogReads, *, all_logs: bool = False, looks: bool = True) -> None:
        self._reads = reads
        self._all_logs = all_logs
        self._looks = looks
        """Whoever drives us comes back for containers that run."""

    def want(self, job: Job, of: PodOutcome) -> LogRead | None:
        """The log of the attempt that decided; None while it is being read."""
        container = of.container
        return self._reads.want(
            _wanted(job, of.pod, container, container.restarts, follow=container.state == "running")
        )

    def is_storing(self, of: PodOutcome) -> bool:
        """Its log was read, and waits for Redis to take it."""
        return self._reads.is_storing((of.pod.uid, of.container.name, of.container.restarts))

    @property
    def under_way(self) -> int:
        """Reads that have not ended, those that wait for the store among them."""
        return self._reads.under_way

    def start(self, wanted: Wanted) -> None:
        """Read this, unless it was read or is being read."""
        self._reads.want(wanted)

    def due(self, job: Job, pods: Iterable[Pod]) -> list[Wanted]:
        """What can be read now and was not."""
        found: list[Wanted] = []
        for pod in pods:
            if pod.gone:
                continue
            main = main_container(job, pod)
            if main is not None and not is_of_a_former_start(job, pod, main):
                found += _ended_instances(job, pod, main)
                if main.state == "running" and pod.deleted:
                    found.append(_wanted(job, pod, main, main.restarts, follow=True))
            if self._all_logs or pod_outcome(job, pod).has_failed:
                for other in (*pod.init, *pod.sidecars, *pod.containers):
                    if other is not main:
                        found += _ended_instances(job, pod, other)
        return [wanted for wanted in found if self._reads.get(wanted.key) is None]

    def of(self, pod: Pod, container: Container) -> list[Log]:
        """The logs read of a Pod; those of `container` first, its latest instance before the others."""
        others = (container, *(other for other in _all(pod) if other.name != container.name))
        keys = ((pod.uid, other.name, i) for other in others for i in range(other.restarts, -1, -1))
        return [read.log for key in keys if (read := self._reads.get(key)) is not None]

    def next_look(self, job: Job, pods: Iterable[Pod]) -> float | None:
        """In how many seconds a container that runs is to be looked at, so that a rotation of its log is noticed."""
        rotation = self._reads.rotation
        if rotation is None or not self._looks:
            return None
        soonest: float | None = None
        for pod in pods:
            main = main_container(job, pod)
            if main is not None and main.state == "running" and not pod.deleted:
                key: Key = (pod.uid, main.name, main.restarts)
                left = rotation.watch(key, _place(job, pod, main, main.restarts))
                if left is not None and (soonest is None or left < soonest):
                    soonest = left
        return soonest

    def finish(self, job: Job, pods: Sequence[Pod]) -> None:
        """We published the Job's end: what can still be read of it is, for the store's sake."""
        if self._reads.has_store:
            for wanted in self.due(job, pods):
                self._reads.want(wanted)

    def drop(self, pods: Sequence[Pod]) -> None:
        """The Job's end is published: forget what was read of it."""
        for pod in pods:
            for container in _all(pod):
                for instance in range(container.restarts + 1):
                    key = (pod.uid, container.name, instance)
                    self._reads.drop(key)
                    if self._reads.rotation is not None:
                        self._reads.rotation.drop(key)


def _all(pod: Pod) -> tuple[Container, ...]:
    return (*pod.containers, *pod.init, *pod.sidecars)


def _ended_instances(job: Job, pod: Pod, container: Container) -> list[Wanted]:
    """The instances that have ended and of which the kubelet still has the log: the last one, and the one before."""
    found = []
    if container.previous is not None and container.state != "waiting":
        found.append(_wanted(job, pod, container, container.restarts - 1, previous=True))
    ended = container.ended
    if ended is not None and ended.started_at is not None:
        found.append(_wanted(job, pod, container, container.restarts))
    return found


def _wanted(
    job: Job, pod: Pod, container: Container, instance: int, *, follow: bool = False, previous: bool = False
) -> Wanted:
    return Wanted(_place(job, pod, container, instance), pod.uid, job.eval_id, follow, previous)


def _place(job: Job, pod: Pod, container: Container, instance: int) -> LogPlace:
    return LogPlace(job.namespace, job.name, job.uid, pod.name, container.name, instance)
