"""What is known of a Job between its statuses: why it waits, how its attempts go, which indexes are done. Pure.

Some of it is published as progress, each note once; all of it is in the record of the evaluation.

| kind | when |
| --- | --- |
| attempt-ended | it failed, and another follows: the Job controller has counted it and goes on, or the next one runs |
| index-finished | the Pod of an index succeeded, or the index has failed for good |
| main-ended | only a sidecar keeps the Job open; or this was the last of several attempts, and the Job is about to fail |
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from jobcast.event import Progress, event_id
from jobcast.jobs.facts import build_common_fields
from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import LogsOf, Observation, PodOutcome, build_attempt, build_former_attempt, list_attempts
from jobcast.jobs.status import JobStatus, find_first_start

Kind = Literal["attempt-ended", "index-finished", "main-ended"]
ROUTINE = frozenset({"ContainerCreating", "PodInitializing", None})
"""Reasons to wait that every Pod has for a moment."""
MOST_AT_THE_END = 16
"""Unpublished notes that are published together with the Job's end, the latest ones: more would be history, not progress."""
Summary = tuple[str | None, int, str, str]
NOTHING: Summary = (None, 0, "", "")


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Why a Pod cannot start."""

    reason: str
    message: str | None
    pod: str


class Indexes(msgspec.Struct, frozen=True, kw_only=True):
    """Of an Indexed Job, in Kubernetes' notation: `0-2,5`."""

    completed: str
    failed: str
    total: int | None


class Note(msgspec.Struct, frozen=True, gc=False):
    """Progress that is to be published, once."""

    id: str
    kind: Kind
    outcome: PodOutcome
    is_former: bool = False
    """It is about the instance before the last restart."""


def find_notes(seen: Observation) -> list[Note]:
    """The progress that the Pods show, in the order in which it happened."""
    current = seen.current
    if not current or (len(current) == 1 and _is_plain(current[0])):
        return []
    failed = sorted((one for one in current if one.has_failed and one.pod.is_over), key=_finished)
    found = []
    for one in sorted(current, key=_finished):
        restarts = one.container.restarts
        if one.container.previous is not None and one.container.state != "waiting":
            found.append(Note(_note_id(seen.job, one, restarts - 1), "attempt-ended", one, True))
        kind = _kind_of(seen, one, failed)
        if kind == "main-ended" and one.pod.is_over and len(current) == 1 and not restarts:
            continue  # a single attempt without a restart: the Job's end follows at once and says all of it
        if kind is not None:
            key = f"index/{one.pod.index}" if kind == "index-finished" and not one.has_failed else None
            found.append(Note(_note_id(seen.job, one, restarts, key), kind, one))
    return found if seen.job.end is None else found[-MOST_AT_THE_END:]


def build_progress(seen: Observation, note: Note, status: str, logs: LogsOf) -> Progress:
    """The message. `status` is the Job's current one."""
    job = seen.job
    ended = build_former_attempt(note.outcome, logs) if note.is_former else build_attempt(note.outcome, logs)
    assert ended is not None, "a former instance is noted only where there is one"
    return Progress(
        **build_common_fields(seen, note.id, ended.finished_at, job.started, job.created),
        status=status,
        kind=note.kind,
        attempt=ended,
    )


def find_waiting(pods: Sequence[Pod]) -> Waiting | None:
    """Why the first Pod that waits for something unusual does; None when none does."""
    for pod in pods:
        if pod.is_over or pod.deleted:
            continue
        if pod.reason == "Unschedulable":
            return Waiting(reason=pod.reason, message=pod.message, pod=pod.name)
        for containers in (pod.init, pod.sidecars, pod.containers):
            for container in containers:
                if container.state == "waiting" and container.reason not in ROUTINE:
                    return Waiting(reason=container.reason or "", message=container.message, pod=pod.name)
    return None


def summarize(seen: Observation) -> Summary:
    """The part of the record that is worth a ledger step of its own when it changes; NOTHING for a Job without incidents."""
    job, pods = seen.job, seen.pods
    if not pods and not job.is_indexed:
        return NOTHING
    wait = find_waiting(pods)
    ended = sum(pod.phase == "Failed" for pod in pods) + sum(c.restarts for pod in pods for c in pod.containers)
    return wait.reason if wait else None, ended, job.completed_indexes, job.failed_indexes


def build_record_fields(seen: Observation, now: JobStatus, logs: LogsOf) -> dict[str, bytes]:
    """The fields of the record besides the event; an empty value removes one. The ledger itself removes those that a status
    ends."""
    job, found = seen.job, dict[str, bytes]()
    if seen.pods and not now.is_terminal:
        wait = find_waiting(seen.pods)
        found["waiting"] = msgspec.json.encode(wait) if wait is not None else b""
        found["attempts"] = msgspec.json.encode(list_attempts(seen, logs))
    if now.has_run and (started := find_first_start(seen)) is not None:
        found["started_at"] = started.encode()
    if job.is_indexed:
        found["indexes"] = msgspec.json.encode(
            Indexes(completed=job.completed_indexes, failed=job.failed_indexes, total=job.completions)
        )
    return found


def in_intervals(index: int, intervals: str) -> bool:
    """Whether an index is in Kubernetes' notation for many: `0-2,5`."""
    for interval in intervals.split(","):
        first, _, last = interval.partition("-")
        if _is_index(first) and (not last or _is_index(last)) and int(first) <= index <= int(last or first):
            return True
    return False


def _is_index(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10  # an int32; int() refuses text that is far too long


def _is_plain(outcome: PodOutcome) -> bool:
    """One Pod that runs, or succeeded. Most Jobs are no more than this, and have no progress to publish."""
    pod, container = outcome.pod, outcome.container
    if outcome.role == "init" or container.previous is not None or pod.phase == "Failed" or pod.index is not None:
        return False
    return container.state != "terminated" or pod.is_over


def _kind_of(seen: Observation, outcome: PodOutcome, failed: Sequence[PodOutcome]) -> Kind | None:
    job, pod = seen.job, outcome.pod
    verdict = job.end or job.target
    is_failing = verdict is not None and verdict.type in ("Failed", "FailureTarget")
    if outcome.ended is not None and outcome.container.state == "waiting":
        return "main-ended" if is_failing else "attempt-ended"  # it waits to be restarted
    if pod.phase == "Succeeded":
        return "index-finished" if pod.index is not None and job.is_indexed else None
    if not pod.is_over:
        is_main = outcome.ended is not None and outcome.role == "main"
        return "main-ended" if is_main and not outcome.may_restart and _is_held_open(outcome) else None
    if not outcome.has_failed:
        return None
    if pod.index is not None and in_intervals(pod.index, job.failed_indexes):
        return "index-finished"
    if _is_replaced(job, outcome, seen.current):
        return "attempt-ended"
    if is_failing:
        return "main-ended"
    is_counted = verdict is None and failed.index(outcome) < job.failed
    return "attempt-ended" if is_counted else None


def _is_held_open(outcome: PodOutcome) -> bool:
    return any(one.name != outcome.container.name and one.state == "running" for one in outcome.pod.containers)


def _is_replaced(job: Job, outcome: PodOutcome, current: Sequence[PodOutcome]) -> bool:
    """Whether another attempt at the same runs, or ran, that was made later. Nodes' clocks do not show that."""
    pod = outcome.pod
    if pod.index is None and not job.has_one_pod_at_a_time:
        return False
    ended = (pod.created, outcome.finished_at or "~")
    return any(
        other.pod.uid != pod.uid
        and other.pod.index == pod.index
        and (other.pod.created, other.started_at or "") >= ended
        for other in current
        if other.started_at is not None
    )


def _finished(outcome: PodOutcome) -> tuple[str, str]:
    return (outcome.finished_at or "" if outcome.ended else "~", outcome.pod.name)


def _note_id(job: Job, outcome: PodOutcome, instance: int, key: str | None = None) -> str:
    return event_id(job.uid, "progress", key or f"{outcome.pod.uid}/{outcome.container.name}/{instance}")
