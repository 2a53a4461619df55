"""The events that a Job's standing calls for. Pure.

What is due is named first, by id and status alone, which costs nothing and mostly says that there is nothing to do; the
events themselves are made only when they are to be told.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from jobcast.event import (
    PENDING,
    Attempt,
    Cancelled,
    Completed,
    Event,
    Failed,
    JobRef,
    Running,
    Status,
    Suspended,
    event_id,
)
from jobcast.excerpt import LogRead
from jobcast.job import Container, Job, Pod, main_container, unix
from jobcast.status import Standing, first_start


class Due(msgspec.Struct, frozen=True, gc=False):
    """A fact that is to be told, if it was not."""

    id: str
    status: Status


def due(job: Job, standing: Standing) -> tuple[Due, ...]:
    """What is to be told of a Job that stands so, in order; the last is the target. Empty for a pending one."""
    if standing.status not in Status.__members__.values():
        return ()
    target = Status(standing.status)
    if target is Status.RUNNING:
        return (Due(event_id(job.uid, target, job.started or ""), target),)
    key = ""
    if target is Status.SUSPENDED and job.suspended is not None:
        key = job.suspended.last_transition_time or ""
    facts: tuple[Due, ...] = (Due(event_id(job.uid, target, key), target),)
    # Without startTime (Kubernetes 1.35 clears it on suspension, while the Pods still terminate) its running has no id:
    # an empty key would make another one of the running that was told.
    if standing.has_run and job.started:
        facts = (Due(event_id(job.uid, Status.RUNNING, job.started or ""), Status.RUNNING), *facts)
    return facts


class Context(msgspec.Struct, frozen=True, gc=False):
    """What an event says beyond the Job and its Pods."""

    read: LogRead | None = None
    """The log of the attempt that decided, of completed and failed Jobs."""
    is_gone: bool = False
    last_status: str = PENDING
    """What was told last, of cancelled Jobs."""


class Teller:
    """Makes the events of one Job as it is seen now. `now` tells the cluster's time, RFC 3339."""

    def __init__(self, job: Job, pods: Sequence[Pod], context: Context, *, now: Callable[[], str]) -> None:
        self._job = job
        self._pods = pods
        self._context = context
        self._now = now

    def event(self, fact: Due) -> Event:
        if fact.status is Status.RUNNING:
            return self._running(fact)
        if fact.status is Status.SUSPENDED:
            return self._suspended(fact)
        if fact.status is Status.CANCELLED:
            return self._cancelled(fact)
        return self._ended(fact)

    def _running(self, fact: Due) -> Running:
        job = self._job
        started = first_start(job, self._pods)
        timestamp, time = _moment(started or job.created)
        return Running(
            id=fact.id,
            eval_id=job.eval_id,
            timestamp=timestamp,
            time=time,
            job=_ref(job),
            metadata=_metadata(job),
            started_at=started,
            timeout=job.timeout,
            executor_id=job.name,
            container_id=job.name,
        )

    def _suspended(self, fact: Due) -> Suspended:
        job, condition = self._job, self._job.suspended
        timestamp, time = _moment(condition.last_transition_time if condition else None, job.created)
        return Suspended(
            id=fact.id,
            eval_id=job.eval_id,
            timestamp=timestamp,
            time=time,
            job=_ref(job),
            metadata=_metadata(job),
            reason=condition.reason if condition else None,
        )

    def _cancelled(self, fact: Due) -> Cancelled:
        job = self._job
        timestamp, time = _moment(job.deleted or self._now())
        return Cancelled(
            id=fact.id,
            eval_id=job.eval_id,
            timestamp=timestamp,
            time=time,
            job=_ref(job),
            metadata=_metadata(job),
            reason="JobDeleted" if self._context.is_gone else "JobBeingDeleted",
            cancelled_at=time,
            job_name=job.name,
            last_status=self._context.last_status,
        )

    def _ended(self, fact: Due) -> Completed | Failed:
        job, condition, read = self._job, self._job.end, self._context.read
        assert condition is not None, "only a condition ends a Job"
        assert read is not None, "an end comes with what is known of its log"
        timestamp, time = _moment(condition.last_transition_time, job.completed, job.created)
        decider = deciding(job, self._pods)
        kind, stamp, error = (
            (Completed, "completed_at", None)
            if fact.status is Status.COMPLETED
            else (Failed, "failed_at", _line(condition.reason, condition.message))
        )
        return kind(
            id=fact.id,
            eval_id=job.eval_id,
            timestamp=timestamp,
            time=time,
            job=_ref(job),
            metadata=_metadata(job) | {stamp: time, "log_source": read.log.source or "none"},
            exit_code=decider[1].exit_code if decider else None,
            output=read.output,
            output_truncated=read.is_cut,
            error=error,
            duration_seconds=_between(job.started, job.completed or time),
            reason=condition.reason,
            attempts=attempts(job, self._pods),
            log=read.log,
        )


def attempts(job: Job, pods: Sequence[Pod]) -> list[Attempt]:
    """The Job's Pods as far as they were seen, in the order in which they started."""
    found = []
    for pod in pods:
        container = main_container(job, pod) or Container(name="", state="waiting")
        found.append(
            Attempt(
                pod=pod.name,
                index=pod.index,
                started_at=container.started_at,
                finished_at=container.finished_at,
                exit_code=container.exit_code,
                reason=pod.reason or container.reason,
                restarts=container.restarts,
            )
        )
    # Those that never started come last; RFC 3339 in UTC sorts as text.
    return sorted(found, key=lambda attempt: (attempt.started_at or "~", attempt.pod))


def deciding(job: Job, pods: Sequence[Pod]) -> tuple[Pod, Container] | None:
    """The attempt whose exit code and output are the Job's: the last that ended the way the Job did, else the last."""
    ended = [(pod, c) for pod in pods if (c := main_container(job, pod)) is not None and c.state == "terminated"]
    if not ended:
        return None
    completed = job.end is not None and job.end.type == "Complete"
    alike = [(pod, c) for pod, c in ended if (c.exit_code == 0) == completed]
    return max(alike or ended, key=lambda attempt: (attempt[1].finished_at or "", attempt[0].name))


def _ref(job: Job) -> JobRef:
    return JobRef(job.namespace, job.name, job.uid)


def _metadata(job: Job) -> dict[str, str]:
    return {"job_name": job.name, **(job.labels or {})}


def _line(*parts: str | None) -> str | None:
    """One readable line, whatever line ends are in the parts; None for nothing."""
    return ": ".join(" ".join(part.split()) for part in parts if part) or None


def _moment(*times: str | None) -> tuple[float, str]:
    """The first of these times that can be read, as Unix seconds and RFC 3339."""
    for time in times:
        if time:
            try:
                return unix(time), time
            except ValueError:
                continue
    return 0.0, datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _between(start: str | None, end: str | None) -> float | None:
    """Seconds between two times of the cluster."""
    if not start or not end:
        return None
    try:
        return max(0.0, unix(end) - unix(start))
    except ValueError:
        return None
