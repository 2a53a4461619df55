"""A Job and its Pods at one moment, and how each attempt went. Pure.

One container decides how an attempt went: the Pod's main container, or the init container that failed before the main one could
start. A sidecar never decides.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from jobcast.event import Attempt, Log
from jobcast.jobs.model import Container, Ended, Job, Pod, main_container, unix

NO_CONTAINER = Container(name="", state="waiting")
DEADLINE = "DeadlineExceeded"
LogsOf = Callable[[Pod, Container], list[Log]]
"""The logs that were read of an attempt, the deciding container's first."""


class PodOutcome(msgspec.Struct, frozen=True, gc=False):
    """How one Pod went, by the container that decides."""

    pod: Pod
    container: Container
    role: Literal["main", "init"]
    main: Container | None
    """None until the kubelet reports it."""
    ended: Ended | None
    """How the deciding container's last instance ended."""

    @property
    def has_ended(self) -> bool:
        """It ended, or the runtime could not start it. A container that the kubelet only lost track of may never have run."""
        ended = self.ended
        return ended is not None and (ended.exit_code is not None or ended.started_at is not None)

    @property
    def has_failed(self) -> bool:
        """It ended with another exit code than 0, or with one that is not known."""
        return self.pod.phase == "Failed" or (self.ended is not None and self.ended.exit_code != 0)

    @property
    def ended_by_itself(self) -> bool:
        """It ended before its Pod was deleted. The cluster's times are whole seconds: a container that ends in the same second as
        the deletion counts as killed."""
        finished = self.finished_at
        if finished is None:
            return False
        try:
            return self.pod.asked is None or unix(finished) < self.pod.asked
        except ValueError:
            return False

    @property
    def exit_code(self) -> int | None:
        return self.ended.exit_code if self.ended else None

    @property
    def started_at(self) -> str | None:
        return self.ended.started_at if self.ended else self.container.started_at

    @property
    def finished_at(self) -> str | None:
        return self.ended.finished_at if self.ended else None


class Observation:
    """A Job with its Pods. What follows from the Pods is computed once, here."""

    __slots__ = ("current", "decider", "is_gone", "job", "outcomes", "pods")

    def __init__(self, job: Job, pods: Sequence[Pod] = (), *, is_gone: bool = False) -> None:
        self.job = job
        self.pods = pods
        self.is_gone = is_gone
        """The API server no longer has the Job; `job` is its last state."""
        self.outcomes = [pod_outcome(job, pod) for pod in pods]
        self.current = _since_last_start(job, self.outcomes)
        """The outcomes of the Pods that the Job made since it was last started or resumed."""
        self.decider = _deciding(job, self.current) if job.end is not None else None
        """The attempt whose exit code and output are the Job's. None while the Job is open, or where no attempt ended."""


def pod_outcome(job: Job, pod: Pod) -> PodOutcome:
    main = main_container(job, pod)
    if main is None or not main.has_run:
        for init in pod.init:
            ended = init.ended
            if ended is not None and ended.exit_code != 0:
                return PodOutcome(pod, init, "init", main, ended)
    decides = main or NO_CONTAINER
    return PodOutcome(pod, decides, "main", main, decides.ended)


def is_from_former_start(job: Job, pod: Pod, container: Container) -> bool:
    """Whether the Pod belongs to the run before the Job was suspended. Such Pods linger while they terminate.

    All times are the cluster's, in whole seconds, and compare as text (RFC 3339, UTC). The Pod's creation time does not
    help: the Job controller creates the Pods of a resumed Job before it writes startTime.
    """
    if job.started is None or not (job.was_suspended or job.suspended):
        return False
    if container.started_at is not None:
        return container.started_at < job.started
    # It never started: was it deleted by the suspension, or after the Job was resumed?
    try:
        return pod.deleted and (pod.asked is None or pod.asked <= unix(job.started))
    except ValueError:  # startTime is no time: nothing shows that the Pod is of this start
        return True


def list_attempts(seen: Observation, logs: LogsOf = lambda pod, container: []) -> list[Attempt]:
    """All Pods of the Job that were seen, in the order in which they started."""
    found = [build_attempt(outcome, logs) for outcome in seen.outcomes]
    # Those that never started come last; RFC 3339 in UTC sorts as text.
    return sorted(found, key=lambda attempt: (attempt.started_at or attempt.finished_at or "~", attempt.pod))


def build_attempt(outcome: PodOutcome, logs: LogsOf = lambda pod, container: []) -> Attempt:
    pod, container, ended = outcome.pod, outcome.container, outcome.ended
    return Attempt(
        pod=pod.name,
        index=pod.index,
        started_at=outcome.started_at,
        finished_at=outcome.finished_at,
        exit_code=outcome.exit_code,
        reason=pod.reason or (ended.reason if ended else container.reason),
        restarts=container.restarts,
        container=container.name or None,
        role=outcome.role,
        message=(ended.message if ended else container.message) or pod.message,
        logs=logs(pod, container),
    )


def build_former_attempt(outcome: PodOutcome, logs: LogsOf = lambda pod, container: []) -> Attempt | None:
    """The instance before the container's last restart, as an attempt of its own; None where there was none."""
    previous = outcome.container.previous
    if previous is None or outcome.container.state == "waiting":
        return None
    return Attempt(
        pod=outcome.pod.name,
        index=outcome.pod.index,
        started_at=previous.started_at,
        finished_at=previous.finished_at,
        exit_code=previous.exit_code,
        reason=previous.reason,
        restarts=outcome.container.restarts - 1,
        container=outcome.container.name,
        role=outcome.role,
        message=previous.message,
        logs=logs(outcome.pod, outcome.container),
    )


def _since_last_start(job: Job, outcomes: list[PodOutcome]) -> list[PodOutcome]:
    if not (job.was_suspended or job.suspended):
        return outcomes
    return [outcome for outcome in outcomes if not is_from_former_start(job, outcome.pod, outcome.container)]


def _deciding(job: Job, outcomes: list[PodOutcome]) -> PodOutcome | None:
    """The last attempt that ended as the Job did, else the last that ended.

    An attempt that was killed because the Job was decided did not decide it. A deadline is decided by what it cut short.
    """
    ended = [outcome for outcome in outcomes if outcome.has_ended]
    if not ended:
        return None
    completed = job.end is not None and job.end.type == "Complete"
    alike = [outcome for outcome in ended if (outcome.exit_code == 0) == completed]
    causes = [outcome for outcome in alike if not _is_consequence(job, outcome)]
    return max(causes or alike or ended, key=lambda outcome: (outcome.finished_at or "", outcome.pod.name))


def _is_consequence(job: Job, outcome: PodOutcome) -> bool:
    """Whether it was killed because the Job was decided."""
    verdict = job.target or job.end
    asked = outcome.pod.asked
    if verdict is None or verdict.reason == DEADLINE or asked is None or outcome.ended_by_itself:
        return False
    try:
        return asked >= unix(verdict.last_transition_time or "")
    except ValueError:
        return False
