"""The events that a Job's standing calls for. Pure.

What is due is named first, by id and status alone, which costs nothing and mostly says that there is nothing to do; the
events themselves are made only when they are to be published.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from jobcast.event import (
    PENDING,
    Artifact,
    Cancelled,
    Completed,
    Event,
    Failed,
    JobRef,
    Log,
    Running,
    Status,
    Suspended,
    event_id,
)
from jobcast.jobs.model import Job, Pod, unix
from jobcast.jobs.observation import LogsOf, attempts, deciding_outcome
from jobcast.jobs.status import JobStatus, first_start
from jobcast.wire import UNREADABLE

TERMINATION_MESSAGE = "termination-message"
"""`log_source` of an output that is the container's last word, for want of its log."""
_artifacts = msgspec.json.Decoder(list[Artifact])


class LogRead(msgspec.Struct, frozen=True, gc=False):
    """A finished read: what the event says of the log, and the text it shows."""

    log: Log
    output: str
    is_cut: bool


def unavailable(reason: str, source: str | None = None) -> LogRead:
    """No log, and why; see docs/events.md for the reasons."""
    return LogRead(Log(state="unavailable", reason=reason, source=source), "", False)


class Fact(msgspec.Struct, frozen=True, gc=False):
    """A fact that is to be published, if it was not."""

    id: str
    status: Status


def facts_due(job: Job, standing: JobStatus) -> tuple[Fact, ...]:
    """What is to be published about a Job that stands so, in order; the last is the target. Empty for a pending one."""
    if standing.status not in Status.__members__.values():
        return ()
    target = Status(standing.status)
    if target is Status.RUNNING:
        return (Fact(event_id(job.uid, target, job.started or ""), target),)
    key = ""
    if target is Status.SUSPENDED and job.suspended is not None:
        key = job.suspended.last_transition_time or ""
    facts: tuple[Fact, ...] = (Fact(event_id(job.uid, target, key), target),)
    # Without startTime (Kubernetes 1.35 clears it on suspension, while the Pods still terminate) its running has no id:
    # an empty key would make another one of the running that was published.
    # Of a Job that goes while it is suspended its running is history, and comes before a suspended that may have been published.
    is_past = target is Status.CANCELLED and job.suspended is not None
    if standing.has_run and job.started and not is_past:
        facts = (Fact(event_id(job.uid, Status.RUNNING, job.started or ""), Status.RUNNING), *facts)
    return facts


class EventContext(msgspec.Struct, frozen=True, gc=False):
    """What an event says beyond the Job and its Pods."""

    read: LogRead | None = None
    """The log of the attempt that decided, of completed and failed Jobs."""
    is_gone: bool = False
    last_status: str = PENDING
    """What was published last, of cancelled Jobs."""
    is_concluded: bool = False
    """Its condition never came: the end is what had been reached when it was deleted."""
    logs: LogsOf = lambda pod, container: []


class EventBuilder:
    """Makes the events of one Job as it is seen now. `now` publishes the cluster's time, RFC 3339."""

    def __init__(self, job: Job, pods: Sequence[Pod], context: EventContext, *, now: Callable[[], str]) -> None:
        self._job = job
        self._pods = pods
        self._context = context
        self._now = now

    def event(self, fact: Fact) -> Event:
        if fact.status is Status.RUNNING:
            return self._running(fact)
        if fact.status is Status.SUSPENDED:
            return self._suspended(fact)
        if fact.status is Status.CANCELLED:
            return self._cancelled(fact)
        return self._ended(fact)

    def _running(self, fact: Fact) -> Running:
        job = self._job
        started = first_start(job, self._pods)
        timestamp, time = moment(started or job.created)
        return Running(
            id=fact.id,
            eval_id=job.eval_id,
            timestamp=timestamp,
            time=time,
            job=ref(job),
            metadata=metadata(job),
            warnings=warnings(job, self._pods),
            started_at=started,
            timeout=job.timeout,
            executor_id=job.name,
            container_id=job.name,
        )

    def _suspended(self, fact: Fact) -> Suspended:
        job, condition = self._job, self._job.suspended
        timestamp, time = moment(condition.last_transition_time if condition else None, job.created)
        return Suspended(
            id=fact.id,
            eval_id=job.eval_id,
            timestamp=timestamp,
            time=time,
            job=ref(job),
            metadata=metadata(job),
            warnings=warnings(job, self._pods),
            reason=condition.reason if condition else None,
        )

    def _cancelled(self, fact: Fact) -> Cancelled:
        job = self._job
        timestamp, time = moment(job.deleted or self._now())
        return Cancelled(
            id=fact.id,
            eval_id=job.eval_id,
            timestamp=timestamp,
            time=time,
            job=ref(job),
            metadata=metadata(job),
            warnings=warnings(job, self._pods),
            reason="JobDeleted" if self._context.is_gone else "JobBeingDeleted",
            cancelled_at=time,
            job_name=job.name,
            last_status=self._context.last_status,
            attempts=attempts(job, self._pods, self._context.logs),
        )

    def _ended(self, fact: Fact) -> Completed | Failed:
        job, condition, read = self._job, self._job.end, self._context.read
        assert condition is not None, "only a condition ends a Job"
        assert read is not None, "an end comes with what is known of its log"
        timestamp, time = moment(condition.last_transition_time, job.completed, job.created)
        decider = deciding_outcome(job, self._pods)
        ended = decider.ended if decider else None
        output, source = read.output, read.log.source or "none"
        # Of a container without an exit code the message is the kubelet's own, about not having found it.
        if read.log.state == "unavailable" and ended is not None and ended.exit_code is not None and ended.message:
            output, source = ended.message, TERMINATION_MESSAGE
        doubts = [*warnings(job, self._pods)]
        if self._context.is_concluded:
            doubts.append("the Job was deleted before its end; this is what it, or its Pods, had said by then")
        error = _line(condition.reason, condition.message)
        if error is None and self._context.is_concluded:
            error = "the Job was deleted after it had failed"
        kind, stamp, error = (
            (Completed, "completed_at", None) if fact.status is Status.COMPLETED else (Failed, "failed_at", error)
        )
        return kind(
            id=fact.id,
            eval_id=job.eval_id,
            timestamp=timestamp,
            time=time,
            job=ref(job),
            metadata=metadata(job) | {stamp: time, "log_source": source},
            warnings=doubts,
            exit_code=ended.exit_code if ended else None,
            output=output,
            output_truncated=read.is_cut,
            error=error,
            duration_seconds=_between(job.started, job.completed or time),
            reason=condition.reason,
            attempts=attempts(job, self._pods, self._context.logs),
            log=read.log,
            container=decider.container.name if decider else None,
            role=decider.role if decider else "main",
            artifacts=artifacts(job) or [],
        )


def warnings(job: Job, pods: Sequence[Pod]) -> list[str]:
    """What is wrong with the Job's annotations: they are users' text, and never cost the event."""
    found = []
    if job.container is not None:
        names = {container.name for pod in pods for container in pod.containers}
        if names and job.container not in names:
            found.append(
                f"annotation jobcast/container: no container is named {_short(job.container)}; {_those(names)}"
            )
    if job.bad_timeout is not None:
        found.append(f"annotation timeout: {_short(job.bad_timeout)} is no number of seconds")
    if artifacts(job) is None:
        found.append(
            f"annotation jobcast/artifacts: {_short(job.artifacts or '')} is no JSON list of name and location"
        )
    return found


def artifacts(job: Job) -> list[Artifact] | None:
    """What the annotation lists; None for one that does not parse."""
    if not job.artifacts:
        return []
    try:
        return _artifacts.decode(job.artifacts)
    except UNREADABLE:
        return None


def ref(job: Job) -> JobRef:
    return JobRef(job.namespace, job.name, job.uid)


def metadata(job: Job) -> dict[str, str]:
    return {"job_name": job.name, **(job.labels or {})}


def _line(*parts: str | None) -> str | None:
    """One readable line, whatever line ends are in the parts; None for nothing."""
    return ": ".join(" ".join(part.split()) for part in parts if part) or None


def moment(*times: str | None) -> tuple[float, str]:
    """The first of these times that can be read, as Unix seconds and RFC 3339."""
    for time in times:
        if time:
            try:
                return unix(time), time
            except ValueError:
                continue
    return 0.0, datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _those(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(shown)}{', …' if len(names) > 5 else ''}"


def _between(start: str | None, end: str | None) -> float | None:
    """Seconds between two times of the cluster."""
    if not start or not end:
        return None
    try:
        return max(0.0, unix(end) - unix(start))
    except ValueError:
        return None
