"""The Pods of a Job: those in view and, of a Job whose end they do not explain, those that the API server has.

The watch of Pods may be behind that of Jobs: throttled, mute, or cut at another moment.
"""

import asyncio
from collections.abc import Callable, Sequence

from jobcast.jobs.model import JOB_NAME_LABEL, Job, Pod
from jobcast.jobs.observation import Observation
from jobcast.kube.errors import Forbidden, KubeError
from jobcast.reconcile.view import Cluster, View

PODLESS_SECONDS = 1.0
"""When a Job that ended turns out to have no Pods at all, in a namespace where no Job was seen to have one, others that end there
within this are taken to have none either: a platform that runs Jobs without Pods must not cost a request for each."""
REFUSED_SECONDS = 0.25
"""An API server that does not answer for Pods, and does not say when to come again, is left alone for so long: by all Jobs of
the namespace together."""


class Pods:
    """What is known of them is in the view; here, what was asked for."""

    def __init__(self, view: View, cluster: Cluster, *, patience: float, clock: Callable[[], float]) -> None:
        """`patience`: seconds that the end of a Pod that was seen running is left to the watch to bring."""
        self._view = view
        self._cluster = cluster
        self._patience = patience
        self._clock = clock
        self._found: dict[str, Sequence[Pod]] = {}
        """By uid, the Pods that were asked for."""
        self._asking: dict[str, asyncio.Lock] = {}
        """By namespace, as is what follows."""
        self._podless_until: dict[str, float] = {}
        self._refusals: dict[str, tuple[float, KubeError]] = {}
        """Until when nobody asks, and why."""

    async def observe(self, job: Job, is_gone: bool, since: float) -> Observation:
        """The Job with all the Pods that say something of it. `since`: when its end was first seen, by the clock.

        Pods that were never seen are asked for at once; the end of one that was seen running only after the patience.
        Raises KubeError, however long, while the API server does not say whether the Job ever ran: nothing else shows it.
        """
        seen = Observation(job, self._known(job.uid), is_gone=is_gone)
        if job.end is None or job.ended_pods == 0:
            return seen
        is_known, is_explained = bool(seen.current), seen.decider is not None
        is_current = job.version <= self._view.pods_version(job.namespace)
        if not is_known and is_current:
            return seen  # whatever Pods it had were gone already
        # With fewer ends than the Job has counted, the one that decided may be the one that is not here yet.
        ended = sum(outcome.has_ended for outcome in seen.current)
        if is_explained and (is_current or job.uid in self._found or ended >= job.ended_pods):
            return seen
        has_time = self._clock() < since + self._patience
        if is_known and not is_explained and has_time:
            return seen
        try:
            self._found[job.uid] = await self._ask(job, is_alone=is_known)
        except KubeError as error:
            if has_time or not (is_known or isinstance(error, Forbidden)):
                raise
            return seen
        return Observation(job, self._known(job.uid), is_gone=is_gone)

    def forget(self, uid: str) -> None:
        self._found.pop(uid, None)

    def _known(self, uid: str) -> Sequence[Pod]:
        """Those in view, and those that were asked for, each as it was last."""
        pods, found = self._view.pods(uid), self._found.get(uid)
        if not found:
            return pods
        latest = {pod.uid: pod for pod in found}
        latest |= {pod.uid: pod for pod in pods if pod.uid not in latest or pod.version >= latest[pod.uid].version}
        return list(latest.values())

    async def _ask(self, job: Job, *, is_alone: bool) -> Sequence[Pod]:
        """What the API server has. Unless it `is_alone`, asked once for all Jobs of a namespace where there seem to be none."""
        namespace = job.namespace
        async with self._asking.setdefault(namespace, asyncio.Lock()):
            if not is_alone and self._clock() < self._podless_until.get(namespace, 0.0):
                return ()
            until, refusal = self._refusals.get(namespace, (0.0, None))
            if refusal is not None and self._clock() < until:
                raise refusal.with_traceback(None)  # each raising would add to the former one's
            try:
                found = await self._cluster.pods_of(namespace, f"{JOB_NAME_LABEL}={job.name}")
            except KubeError as error:
                self._refusals[namespace] = (self._clock() + (error.retry_after or REFUSED_SECONDS), error)
                raise
            self._refusals.pop(namespace, None)
            pods = [pod for pod in found if pod.owner == job.uid]
            if not pods and not self._view.has_seen_pods(namespace):
                self._podless_until[namespace] = self._clock() + PODLESS_SECONDS
            return pods
