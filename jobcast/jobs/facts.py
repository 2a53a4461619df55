"""The events that a Job's status calls for. Pure.

Facts come first: an id and a status, cheap to compare with what was published. Events are built only for new facts.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypedDict

import msgspec

from jobcast.event import (
    MAX_EVAL_ID_BYTES,
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
from jobcast.jobs.model import Job, unix
from jobcast.jobs.observation import LogsOf, Observation, list_attempts
from jobcast.jobs.status import JobStatus, find_first_start
from jobcast.wire import UNREADABLE

TERMINATION_MESSAGE = "termination-message"
"""`log_source` of an output that is the container's termination message, because its log is not available."""
_artifacts_decoder = msgspec.json.Decoder(list[Artifact])


class LogRead(msgspec.Struct, frozen=True, gc=False):
    """A log that was read: what the event says of it, and the excerpt."""

    log: Log
    output: str
    is_cut: bool


def unavailable(reason: str, source: str | None = None) -> LogRead:
    """No log, and the reason (docs/events.md lists them)."""
    return LogRead(Log(state="unavailable", reason=reason, source=source), "", False)


class Fact(msgspec.Struct, frozen=True, gc=False):
    """What is to be published, once."""

    id: str
    status: Status


def facts_due(job: Job, now: JobStatus) -> tuple[Fact, ...]:
    """What is to be published of a Job with this status, in order; the last is the target. Empty for a pending one."""
    if now.status == PENDING:
        return ()
    target = Status(now.status)
    if target is Status.RUNNING:
        return (Fact(event_id(job.uid, target, job.started or ""), target),)
    key = ""
    if target is Status.SUSPENDED and job.suspended is not None:
        key = job.suspended.last_transition_time or ""
    fact = Fact(event_id(job.uid, target, key), target)
    # Without startTime (Kubernetes 1.35 clears it on suspension, while the Pods still terminate) running has no id: an empty
    # key would make a second one. And when a Job is cancelled while it is suspended, its running is history: it comes before
    # a suspended that may have been published.
    is_past = target is Status.CANCELLED and job.suspended is not None
    if now.has_run and job.started and not is_past:
        return (Fact(event_id(job.uid, Status.RUNNING, job.started), Status.RUNNING), fact)
    return (fact,)


class EventContext(msgspec.Struct, frozen=True, gc=False):
    """What an event says beyond the Job and its Pods."""

    read: LogRead | None = None
    """The log of the deciding attempt; needed for completed and failed."""
    last_status: str = PENDING
    """What was published last; for cancelled."""
    is_inferred: bool = False
    """The end is from `infer_end`: the Job's condition never came."""
    logs: LogsOf = lambda pod, container: []


class EventBuilder:
    """Builds the events of one Job. `now` returns the cluster's time, RFC 3339."""

    def __init__(self, seen: Observation, context: EventContext, *, now: Callable[[], str]) -> None:
        self._seen = seen
        self._job = seen.job
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
        started = find_first_start(self._seen)
        return Running(
            **build_common_fields(self._seen, fact.id, started or job.created),
            started_at=started,
            timeout=job.timeout,
            executor_id=job.name,
            container_id=job.name,
        )

    def _suspended(self, fact: Fact) -> Suspended:
        job, condition = self._job, self._job.suspended
        return Suspended(
            **build_common_fields(
                self._seen, fact.id, condition.last_transition_time if condition else None, job.created
            ),
            reason=condition.reason if condition else None,
        )

    def _cancelled(self, fact: Fact) -> Cancelled:
        job = self._job
        common = build_common_fields(self._seen, fact.id, job.deleted or self._now())
        return Cancelled(
            **common,
            reason="JobDeleted" if self._seen.is_gone else "JobBeingDeleted",
            cancelled_at=common["time"],
            job_name=job.name,
            last_status=self._context.last_status,
            attempts=list_attempts(self._seen, self._context.logs),
        )

    def _ended(self, fact: Fact) -> Completed | Failed:
        job, condition, read = self._job, self._job.end, self._context.read
        assert condition is not None, "only a condition ends a Job"
        assert read is not None, "an end comes with what is known of its log"
        common = build_common_fields(self._seen, fact.id, condition.last_transition_time, job.completed, job.created)
        time, found = common["time"], common["warnings"]
        decider = self._seen.decider
        ended = decider.ended if decider else None
        output, source = read.output, read.log.source or "none"
        # Without an exit code the message is the kubelet's, not the container's: the kubelet did not find the container.
        if read.log.state == "unavailable" and ended is not None and ended.exit_code is not None and ended.message:
            output, source = ended.message, TERMINATION_MESSAGE
        if self._context.is_inferred:
            found.append("the Job was deleted before its end; this is what it, or its Pods, had said by then")
        error = _one_line(condition.reason, condition.message)
        if error is None and self._context.is_inferred:
            error = "the Job was deleted after it had failed"
        kind, stamp, error = (
            (Completed, "completed_at", None) if fact.status is Status.COMPLETED else (Failed, "failed_at", error)
        )
        common["metadata"] |= {stamp: time, "log_source": source}
        return kind(
            **common,
            exit_code=ended.exit_code if ended else None,
            output=output,
            output_truncated=read.is_cut,
            error=error,
            duration_seconds=_seconds_between(job.started, job.completed or time),
            reason=condition.reason,
            attempts=list_attempts(self._seen, self._context.logs),
            log=read.log,
            container=decider.container.name if decider else None,
            role=decider.role if decider else "main",
            artifacts=_parse_artifacts(job) or [],
        )


class _CommonFields(TypedDict):
    id: str
    eval_id: str
    timestamp: float
    time: str
    job: JobRef
    metadata: dict[str, str]
    warnings: list[str]


def build_common_fields(seen: Observation, message_id: str, *times: str | None) -> _CommonFields:
    """What all events and progress have. Of `times` the first counts that can be parsed."""
    job = seen.job
    timestamp, time = _moment(*times)
    return {
        "id": message_id,
        "eval_id": job.eval_id,
        "timestamp": timestamp,
        "time": time,
        "job": JobRef(job.namespace, job.name, job.uid),
        "metadata": {"job_name": job.name, **(job.labels or {})},
        "warnings": _warnings(seen),
    }


def _warnings(seen: Observation) -> list[str]:
    """What is wrong with the Job's annotations. They are users' text: a wrong one never prevents the event."""
    job, found = seen.job, []
    if job.container is not None:
        names = {container.name for pod in seen.pods for container in pod.containers}
        if names and job.container not in names:
            found.append(
                f"annotation jobcast/container: no container is named {_short(job.container)}; {_list_names(names)}"
            )
    if job.bad_eval_id is not None:
        found.append(
            f"annotation for the eval_id: {_short(job.bad_eval_id)} has more than {MAX_EVAL_ID_BYTES} bytes; the Job's name is used"
        )
    if job.later_eval_id is not None:
        found.append(
            f"the eval_id was changed to {_short(job.later_eval_id)} after the Job was recorded as {_short(job.eval_id)}, which stays"
        )
    if job.bad_timeout is not None:
        found.append(f"annotation timeout: {_short(job.bad_timeout)} is no number of seconds")
    if _parse_artifacts(job) is None:
        found.append(
            f"annotation jobcast/artifacts: {_short(job.artifacts or '')} is no JSON list of name and location"
        )
    return found


def _parse_artifacts(job: Job) -> list[Artifact] | None:
    """What the annotation lists; None if it cannot be parsed."""
    if not job.artifacts:
        return []
    try:
        return _artifacts_decoder.decode(job.artifacts)
    except UNREADABLE:
        return None


def _one_line(*parts: str | None) -> str | None:
    """The parts as one line; None if all are empty."""
    return ": ".join(" ".join(part.split()) for part in parts if part) or None


def _moment(*times: str | None) -> tuple[float, str]:
    """The first of these times that can be parsed, as Unix seconds and RFC 3339; else the epoch."""
    for time in times:
        if time:
            try:
                return unix(time), time
            except ValueError:
                continue
    return 0.0, datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _list_names(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(shown)}{', …' if len(names) > 5 else ''}"


def _seconds_between(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    try:
        return max(0.0, unix(end) - unix(start))
    except ValueError:
        return None
