"""Which logs of a Job are to be read, and what is known of those that were read.

    main container     every instance, as it ends
    init containers,   those of an attempt that failed; of every attempt where the setting says so
    sidecars, others

The log of a container that is being killed is followed to its end: the kubelet drops the logs of a deleted Pod as soon as its
containers have ended. So is a large log, with what slots are free: when its container ends, only the last lines are missing.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from jobcast.event import Log
from jobcast.jobs.facts import LogRead
from jobcast.jobs.model import Container, Job, Pod
from jobcast.jobs.observation import Observation, PodOutcome
from jobcast.kube import Api
from jobcast.ledger.ledger import Ledger
from jobcast.logs.index import LogIndex
from jobcast.logs.proof import Wanted
from jobcast.logs.reader import STORE_SECONDS, LogReads
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
    """The reads as the settings say; the stack closes them."""
    index = LogIndex(ledger, settings.retention_seconds)
    store = open_log_store(settings.log_store, put=index.put, limit=settings.log_store_limit_bytes)
    if store is not None:
        stack.push_async_callback(store.aclose)
    rotation = await stack.enter_async_context(Rotation(api, index, grown=done))
    reads = LogReads(
        api,
        excerpt_bytes=settings.log_excerpt_bytes,
        concurrency=settings.log_concurrency,
        done=done,
        store=store,
        index=index,
        rotation=rotation,
        # While Redis is unreachable no event can be published either, so a log that goes to Redis is waited for.
        store_seconds=None if settings.log_store == "redis" else STORE_SECONDS,
        seen=seen,
    )
    return await stack.enter_async_context(reads)


class LogPlan:
    """Which logs of a Job to read, as reconcile asks."""

    def __init__(self, reads: LogReads, *, all_logs: bool = False, watches_rotation: bool = True) -> None:
        """`watches_rotation`: the caller looks again when `next_look` says."""
        self._reads = reads
        self._all_logs = all_logs
        self._watches_rotation = watches_rotation

    def want(self, job: Job, outcome: PodOutcome) -> LogRead | None:
        """The log of the deciding attempt; None while it is being read."""
        container = outcome.container
        return self._reads.want(
            _wanted(job, outcome.pod, container, container.restarts, follow=container.state == "running")
        )

    def get_part(self, outcome: PodOutcome) -> LogRead | None:
        """What was read of its log within the time that the event may wait; None if that is nothing."""
        return self._reads.get_part((outcome.pod.uid, outcome.container.name, outcome.container.restarts), "timeout")

    def is_storing(self, outcome: PodOutcome) -> bool:
        """Its log was read, and Redis has not taken it yet."""
        return self._reads.is_storing((outcome.pod.uid, outcome.container.name, outcome.container.restarts))

    @property
    def under_way(self) -> int:
        """Reads that have not ended, including those that wait for the store."""
        return self._reads.under_way

    def start(self, wanted: Wanted) -> None:
        """Read this, unless it was read or is being read."""
        self._reads.want(wanted)

    def due(self, seen: Observation) -> list[Wanted]:
        """What can be read now and was not."""
        job = seen.job
        found: list[Wanted] = []
        for outcome in seen.outcomes:
            pod, main = outcome.pod, outcome.main
            if pod.gone:
                continue
            if main is not None:
                found += _ended_instances(job, pod, main)
                if main.state == "running" and (pod.deleted or self._is_large(pod, main)):
                    found.append(_wanted(job, pod, main, main.restarts, follow=True, ahead=not pod.deleted))
            if self._all_logs or outcome.has_failed:
                for other in (*pod.init, *pod.sidecars, *pod.containers):
                    if other is not main:
                        found += _ended_instances(job, pod, other)
        return [wanted for wanted in found if self._reads.get(wanted.key) is None]

    def _is_large(self, pod: Pod, container: Container) -> bool:
        rotation = self._reads.rotation
        return rotation is not None and rotation.is_large((pod.uid, container.name, container.restarts))

    def logs_of(self, pod: Pod, container: Container) -> list[Log]:
        """The logs that were read of a Pod: those of `container` first, its latest instance before the others."""
        others = (container, *(other for other in _containers(pod) if other.name != container.name))
        keys = ((pod.uid, other.name, i) for other in others for i in range(other.restarts, -1, -1))
        return [read.log for key in keys if (read := self._reads.get(key)) is not None]

    def next_look(self, seen: Observation) -> float | None:
        """In how many seconds to look at a running container again, so that a rotation of its log is noticed."""
        rotation = self._reads.rotation
        if rotation is None or not self._watches_rotation:
            return None
        soonest: float | None = None
        for outcome in seen.outcomes:
            pod, main = outcome.pod, outcome.main
            if main is not None and main.state == "running" and not pod.deleted:
                key: Key = (pod.uid, main.name, main.restarts)
                left = rotation.watch(key, _place(seen.job, pod, main, main.restarts))
                if left is not None and (soonest is None or left < soonest):
                    soonest = left
        return soonest

    def read_rest(self, seen: Observation) -> None:
        """The Job's end is published: read what can still be read, for the log store only."""
        if self._reads.has_store:
            for wanted in self.due(seen):
                self._reads.want(wanted)

    def drop(self, pods: Sequence[Pod]) -> None:
        """The Job's end is published: forget what was read of it."""
        for pod in pods:
            for container in _containers(pod):
                for instance in range(container.restarts + 1):
                    key = (pod.uid, container.name, instance)
                    self._reads.drop(key)
                    if self._reads.rotation is not None:
                        self._reads.rotation.drop(key)


def _containers(pod: Pod) -> tuple[Container, ...]:
    return (*pod.containers, *pod.init, *pod.sidecars)


def _ended_instances(job: Job, pod: Pod, container: Container) -> list[Wanted]:
    """The ended instances whose log the kubelet still has: the last one, and the one before."""
    found = []
    if container.previous is not None and container.state != "waiting":
        found.append(_wanted(job, pod, container, container.restarts - 1, previous=True))
    ended = container.ended
    if ended is not None and ended.started_at is not None:
        found.append(_wanted(job, pod, container, container.restarts))
    return found


def _wanted(
    job: Job,
    pod: Pod,
    container: Container,
    instance: int,
    *,
    follow: bool = False,
    previous: bool = False,
    ahead: bool = False,
) -> Wanted:
    place = _place(job, pod, container, instance)
    return Wanted(place, pod.uid, job.eval_id, follow, previous, has_started=container.has_run, ahead=ahead)


def _place(job: Job, pod: Pod, container: Container, instance: int) -> LogPlace:
    return LogPlace(job.namespace, job.name, job.uid, pod.name, container.name, instance)
