"""A Job and its Pods at one moment, and how each attempt went. Pure.

One container decides how an attempt went: the Pod's main container, or the init container that failed before the main one could
start. A sidecar never decides.

A container's times are of its node's clock, which may be wrong by minutes. They are never compared with times of the API server
or of the Job controller.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from jobcast.event import Attempt, Log
from jobcast.jobs.model import Container, Ended, Job, Pod, Suspension, main_container, unix

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
    def may_restart(self) -> bool:
        """The kubelet may start its container again; it restarts containers, and not Pods."""
        name, pod = self.container.name, self.pod
        is_meant = (
            self.container.state == "waiting" or name in pod.reruns or (self.has_failed and name in pod.restarted)
        )
        return is_meant and not pod.is_over

    @property
    def may_end(self) -> bool:
        """Its end may still come. The phase Failed is the last word of a Pod that was rejected, evicted or lost with its node: no
        container of it will be reported as ended."""
        return self.ended is None and not self.pod.gone and not self.pod.is_over

    @property
    def ended_by_itself(self) -> bool:
        """It was seen to end before the deletion of its Pod was requested. Otherwise it counts as killed: its node's clock does
        not show which came first."""
        if self.finished_at is None:
            return False
        return self.pod.asked is None or self.container.name in self.pod.ended_first

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

    __slots__ = ("current", "decider", "is_explained", "is_gone", "job", "outcomes", "pods", "suspension")

    def __init__(
        self, job: Job, pods: Sequence[Pod] = (), *, is_gone: bool = False, suspension: Suspension | None = None
    ) -> None:
        self.job = job
        self.pods = pods
        self.is_gone = is_gone
        """The API server no longer has the Job; `job` is its last state."""
        self.outcomes = [pod_outcome(job, pod) for pod in pods]
        self.suspension = suspension
        """The last one that was seen; None for a Job that was never suspended, or only while nobody looked."""
        self.current = [one for one in self.outcomes if not is_from_former_start(job, one.pod, suspension)]
        """The outcomes of the Pods that the Job made since it was last started or resumed."""
        decider = _deciding(job, self.current) if job.end is not None else None
        self.is_explained = decider is not None
        """An attempt of the current start has ended like the Job, as far as its Pods are here."""
        if decider is None and job.end is not None:
            # Better an attempt that ended by itself before the suspension than none: it is the last one that is known.
            decider = _deciding(job, [one for one in self.outcomes if one.ended_by_itself])
        self.decider = decider
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


def is_from_former_start(job: Job, pod: Pod, suspension: Suspension | None) -> bool:
    """Whether the Pod belongs to the run before the Job was suspended. Such Pods linger while they terminate.

    A suspension deletes every Pod that is not over, before the condition is written. And the Job controller makes the Pods of a
    resumed Job before it writes startTime: 7 s before it for 150 Pods. So the moment of the suspension divides them, and not the
    one of the resume. These times are of the API server and the Job controller, RFC 3339 in UTC, and compare as text.
    """
    if job.started is None or not (job.was_suspended or job.suspended) or not (pod.deleted or pod.is_over):
        return False
    if job.was_suspended and suspension is not None:
        if pod.created < suspension.at or pod.version <= suspension.version:
            return True
        latest = suspension.at
    else:
        # Nobody saw the suspension. A Pod that went or ended although it is older than startTime was there before it, most likely.
        latest = job.started
        if pod.asked is None:
            return pod.created < latest
    try:
        return pod.asked is not None and pod.asked <= unix(latest)
    except ValueError:  # not a time: nothing shows that the Pod is of this start
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


def _deciding(job: Job, outcomes: list[PodOutcome]) -> PodOutcome | None:
    """The last attempt that ended as the Job did, else the last that ended.

    An attempt that was killed because the Job was decided did not decide it. A deadline is decided by what it cut short. Where
    one Pod follows the other, the one that was made last is the last; of Pods side by side, the nodes' clocks must decide.
    """
    ended = [outcome for outcome in outcomes if outcome.has_ended]
    if not ended:
        return None
    completed = job.end is not None and job.end.type == "Complete"
    alike = [outcome for outcome in ended if (outcome.exit_code == 0) == completed]
    causes = [outcome for outcome in alike if not _is_consequence(job, outcome)]

    def order(one: PodOutcome) -> tuple[str, str, str]:
        return one.pod.created if job.has_one_pod_at_a_time else "", one.finished_at or "", one.pod.name

    return max(causes or alike or ended, key=order)


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
