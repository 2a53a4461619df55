"""The attempts of a Job: what its Pods say of how each went. Pure.

A Pod's word is its main container's. Where an init container failed, no main container ever ran, and the word is the init
container's. A sidecar never decides anything.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from jobcast.event import Attempt, Log
from jobcast.jobs.model import Container, Ended, Job, Pod, main_container, unix

NO_CONTAINER = Container(name="", state="waiting")
DEADLINE = "DeadlineExceeded"
LogsOf = Callable[[Pod, Container], list[Log]]
"""The logs read of an attempt, the deciding container's first."""


class PodOutcome(msgspec.Struct, frozen=True, gc=False):
    """One Pod, and the container that speaks for it."""

    pod: Pod
    container: Container
    role: Literal["main", "init"]

    @property
    def ended(self) -> Ended | None:
        return self.container.ended

    @property
    def has_ended(self) -> bool:
        """It ended, or could not be started. A container that the kubelet merely has no trace of, when its Pod goes, never
        ran, for all that anybody knows."""
        ended = self.ended
        return ended is not None and (ended.exit_code is not None or ended.started_at is not None)

    @property
    def has_failed(self) -> bool:
        """It ended, and not well; or it is gone and nobody can know."""
        if self.pod.phase == "Failed":
            return True
        ended = self.ended
        return ended is not None and ended.exit_code != 0

    @property
    def ended_by_itself(self) -> bool:
        """Before anybody asked for its deletion. Both times are the cluster's, in whole seconds: a container that ended in the
        second in which its Pod was deleted is taken for one that was killed."""
        ended = self.ended
        if ended is None or ended.finished_at is None:
            return False
        try:
            return self.pod.asked is None or unix(ended.finished_at) < self.pod.asked
        except ValueError:
            return False


def pod_outcome(job: Job, pod: Pod) -> PodOutcome:
    """Who speaks for the Pod."""
    main = main_container(job, pod)
    if main is None or not main.has_run:
        for init in pod.init:
            if init.ended is not None and init.ended.exit_code != 0:
                return PodOutcome(pod, init, "init")
    return PodOutcome(pod, main or NO_CONTAINER, "main")


def is_of_a_former_start(job: Job, pod: Pod, container: Container) -> bool:
    """Of a resumed Job, the Pods of the suspended run linger while they terminate; they say nothing of this one.

    All times are the cluster's, to the second; those in RFC 3339 in UTC compare as text. Not the Pod's creation: the Job
    controller makes the Pods of a resumed Job first, and writes startTime afterwards.
    """
    if job.started is None or not (job.was_suspended or job.suspended):
        return False
    if container.started_at is not None:
        return container.started_at < job.started
    # It never started. Was it deleted by the suspension, or since the Job was resumed?
    try:
        return pod.deleted and (pod.asked is None or pod.asked <= unix(job.started))
    except ValueError:  # of a Job that never says when, a Pod that goes without having run says nothing
        return True


def of_this_start(job: Job, pods: Iterable[Pod]) -> list[Pod]:
    """Those that say something of the Job since it was started, or resumed, last."""
    return [pod for pod in pods if not is_of_a_former_start(job, pod, pod_outcome(job, pod).container)]


def deciding_outcome(job: Job, pods: Iterable[Pod]) -> PodOutcome | None:
    """The attempt whose exit code and output are the Job's: the last that ended the way the Job did, else the last.

    What was killed because the Job was decided, or before it was resumed, did not decide it. A deadline is decided by what
    it cut short.
    """
    ended = [found for pod in of_this_start(job, pods) if (found := pod_outcome(job, pod)).has_ended]
    if not ended:
        return None
    completed = job.end is not None and job.end.type == "Complete"
    alike = [found for found in ended if (_exit_code(found) == 0) == completed]
    causes = [found for found in alike if not _is_consequence(job, found)]
    return max(causes or alike or ended, key=lambda found: (_finished_at(found) or "", found.pod.name))


def attempts(job: Job, pods: Iterable[Pod], logs: LogsOf = lambda pod, container: []) -> list[Attempt]:
    """The Job's Pods as far as they were seen, in the order in which they started."""
    found = [attempt(pod_outcome(job, pod), logs) for pod in pods]
    # Those that never started come last; RFC 3339 in UTC sorts as text.
    return sorted(found, key=lambda attempt: (attempt.started_at or attempt.finished_at or "~", attempt.pod))


def attempt(of: PodOutcome, logs: LogsOf = lambda pod, container: []) -> Attempt:
    """What is published about one Pod."""
    pod, container, ended = of.pod, of.container, of.ended
    return Attempt(
        pod=pod.name,
        index=pod.index,
        started_at=ended.started_at if ended else container.started_at,
        finished_at=ended.finished_at if ended else None,
        exit_code=ended.exit_code if ended else None,
        reason=pod.reason or (ended.reason if ended else container.reason),
        restarts=container.restarts,
        container=container.name or None,
        role=of.role,
        message=(ended.message if ended else container.message) or pod.message,
        logs=logs(pod, container),
    )


def former(of: PodOutcome, logs: LogsOf = lambda pod, container: []) -> Attempt | None:
    """The instance before the container's last restart, as an attempt of its own; None where there was none."""
    previous = of.container.previous
    if previous is None or of.container.state == "waiting":
        return None
    return Attempt(
        pod=of.pod.name,
        index=of.pod.index,
        started_at=previous.started_at,
        finished_at=previous.finished_at,
        exit_code=previous.exit_code,
        reason=previous.reason,
        restarts=of.container.restarts - 1,
        container=of.container.name,
        role=of.role,
        message=previous.message,
        logs=logs(of.pod, of.container),
    )


def is_replaced(of: PodOutcome, words: Sequence[PodOutcome]) -> bool:
    """Another attempt at the same has started since this one ended."""
    finished = _finished_at(of) or ""
    return any(
        other.pod.uid != of.pod.uid and other.pod.index == of.pod.index and (_started_at(other) or "") >= finished
        for other in words
        if finished
    )


def in_intervals(index: int, intervals: str) -> bool:
    """Whether an index is in Kubernetes' notation for many: `0-2,5`."""
    for interval in intervals.split(","):
        first, _, last = interval.partition("-")
        if _is_index(first) and (not last or _is_index(last)) and int(first) <= index <= int(last or first):
            return True
    return False


def _is_index(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10  # an int32; too much of what is longer is more than int() takes


def _is_consequence(job: Job, of: PodOutcome) -> bool:
    """It was killed since the Job is decided."""
    verdict = job.target or job.end
    if verdict is None or verdict.reason == DEADLINE or of.pod.asked is None or of.ended_by_itself:
        return False
    try:
        return of.pod.asked >= unix(verdict.last_transition_time or "")
    except ValueError:
        return False


def _exit_code(of: PodOutcome) -> int | None:
    return of.ended.exit_code if of.ended else None


def _finished_at(of: PodOutcome) -> str | None:
    return of.ended.finished_at if of.ended else None


def _started_at(of: PodOutcome) -> str | None:
    return of.ended.started_at if of.ended else of.container.started_at
