"""The Pods of a Job: those in view and, where they do not explain its end, those that the API server has.

The watch of Pods may be behind that of Jobs: throttled, stalled, or cut at another moment.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation
from jobcast.kube.errors import Forbidden, KubeError
from jobcast.reconcile.state import JobState
from jobcast.reconcile.view import Cluster, View

PODLESS_SECONDS = 1.0
"""After a Job turned out to have no Pods at all, in a namespace where no Job was seen to have one, other Jobs that end there
within this time count as having none either: a platform that runs Jobs without Pods must not cost a request for each."""
REFUSED_SECONDS = 0.25
"""After the API server rejected a request for Pods without a Retry-After, no Job of the namespace asks again for so long."""


class _Namespace(msgspec.Struct):
    lock: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    podless_until: float = 0.0
    refused_until: float = 0.0
    refusal: KubeError | None = None


class Pods:
    def __init__(self, view: View, cluster: Cluster, *, patience: float, clock: Callable[[], float]) -> None:
        """`patience`: seconds to wait for the watch to bring the end of a Pod that was seen running."""
        self._view = view
        self._cluster = cluster
        self._patience = patience
        self._clock = clock
        self._namespaces: dict[str, _Namespace] = {}

    async def observe(self, job: Job, is_gone: bool, state: JobState) -> Observation:
        """The Job with all the Pods that say something of it.

        Pods that were never seen are asked for at once; the end of one that was seen running only after the patience.
        Raises KubeError, however long, while the API server does not say whether the Job ever ran: nothing else shows it.
        """
        seen = Observation(job, self._known(job.uid, state), is_gone=is_gone, suspension=state.suspension)
        if job.end is None or job.ended_pods == 0:
            return seen
        is_known, is_explained = bool(seen.current), seen.is_explained
        is_current = job.version <= self._view.pods_version(job.namespace)
        if not is_known and is_current:
            return seen  # whatever Pods it had were gone already
        # With fewer ends than the Job has counted, the one that decided may be the one that is not here yet.
        ended = sum(outcome.has_ended for outcome in seen.current)
        if is_explained and (is_current or state.asked_pods is not None or ended >= job.ended_pods):
            return seen
        now = self._clock()
        has_time = now < state.see_end(now) + self._patience
        if is_known and not is_explained:
            if has_time and any(one.may_end for one in seen.outcomes):
                return seen
            if sum(one.has_ended or one.pod.is_over for one in seen.outcomes) >= job.ended_pods:
                return seen  # all of them are here, and none says more
        try:
            state.asked_pods = await self._ask(job, is_alone=is_known)
        except KubeError as error:
            if has_time or not (is_known or isinstance(error, Forbidden)):
                raise
            return seen
        return Observation(job, self._known(job.uid, state), is_gone=is_gone, suspension=state.suspension)

    def _known(self, uid: str, state: JobState) -> Sequence[Pod]:
        """Those in view and those that were asked for, each in its latest version."""
        pods = self._view.pods(uid)
        if not state.asked_pods:
            return pods
        latest = {pod.uid: pod for pod in state.asked_pods}
        latest |= {pod.uid: pod for pod in pods if pod.uid not in latest or pod.version >= latest[pod.uid].version}
        return list(latest.values())

    async def _ask(self, job: Job, *, is_alone: bool) -> Sequence[Pod]:
        """What the API server has. Unless it `is_alone`, one request serves all Jobs of a namespace that seems to have no Pods."""
        namespace = self._namespaces.setdefault(job.namespace, _Namespace())
        async with namespace.lock:
            if not is_alone and self._clock() < namespace.podless_until:
                return ()
            if namespace.refusal is not None and self._clock() < namespace.refused_until:
                raise namespace.refusal.with_traceback(None)  # otherwise each raise adds to the traceback
            try:
                found = await self._cluster.pods_of(job.namespace, job.pod_selector)
            except KubeError as error:
                namespace.refusal = error
                namespace.refused_until = self._clock() + (error.retry_after or REFUSED_SECONDS)
                raise
            namespace.refusal = None
            pods = [pod for pod in found if pod.owner == job.uid]
            if not pods and not self._view.has_seen_pods(job.namespace):
                namespace.podless_until = self._clock() + PODLESS_SECONDS
            return pods
