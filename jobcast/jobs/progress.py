"""What is known of a Job between its statuses: why it waits, how its attempts go, which indexes are done. Pure.

Some of it is published as progress, once each (`notes`); all of it is in the record of the evaluation (`life`).

| kind | when |
| --- | --- |
| attempt-ended | it failed, and another follows: the Job controller has counted it and goes on, or the next one runs |
| index-finished | the Pod of an index succeeded, or the index has failed for good |
| main-ended | the Job is open for a sidecar's sake alone, or is about to fail with this, the last of several attempts |
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from jobcast.event import Attempt, Progress, event_id
from jobcast.jobs.facts import metadata, moment, ref, warnings
from jobcast.jobs.model import Container, Job, Pod
from jobcast.jobs.observation import (
    LogsOf,
    PodOutcome,
    attempt,
    attempts,
    former,
    in_intervals,
    is_of_a_former_start,
    is_replaced,
    pod_outcome,
)
from jobcast.jobs.status import JobStatus, first_start

Kind = Literal["attempt-ended", "index-finished", "main-ended"]
ROUTINE = frozenset({"ContainerCreating", "PodInitializing", None})
"""Reasons to wait that every Pod has for a moment."""
MOST_AT_THE_END = 16
"""Attempts that nobody had published about and that are published with the Job's end, the latest: more would be history, not progress."""
NOTHING = (None, 0, "", "")


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
    """A fact that is to be published as progress, if it was not."""

    id: str
    kind: Kind
    of: PodOutcome
    is_former: bool = False
    """It is the instance before the last restart that ended."""


def notes(job: Job, pods: Sequence[Pod]) -> list[Note]:
    """The progress that these Pods show, in the order in which it happened."""
    if not pods:
        return []
    words = [found for pod in pods if not is_of_a_former_start(job, pod, (found := pod_outcome(job, pod)).container)]
    if len(words) == 1 and _is_plain(words[0]):
        return []
    failed = sorted((found for found in words if found.has_failed and found.pod.is_over), key=_finished_at)
    found_notes = []
    for of in sorted(words, key=_finished_at):
        if of.container.previous is not None and of.container.state != "waiting":
            found_notes.append(Note(_id(job, of, of.container.restarts - 1), "attempt-ended", of, True))
        kind = _kind(job, of, words, failed)
        if kind == "main-ended" and of.pod.is_over and len(words) == 1 and not of.container.restarts:
            continue  # tried once, and no more: the Job's end says all of it, at once
        if kind is not None:
            key = f"index/{of.pod.index}" if kind == "index-finished" and not of.has_failed else None
            found_notes.append(Note(_id(job, of, of.container.restarts, key), kind, of))
    return found_notes if job.end is None else found_notes[-MOST_AT_THE_END:]


def progress(job: Job, pods: Sequence[Pod], note: Note, status: str, logs: LogsOf) -> Progress:
    """The message. `status` is the Job's current one."""
    published: Attempt | None = former(note.of, logs) if note.is_former else attempt(note.of, logs)
    assert published is not None, "a former instance is noted only where there is one"
    timestamp, time = moment(published.finished_at, job.started, job.created)
    return Progress(
        id=note.id,
        status=status,
        eval_id=job.eval_id,
        timestamp=timestamp,
        time=time,
        job=ref(job),
        metadata=metadata(job),
        warnings=warnings(job, pods),
        kind=note.kind,
        attempt=published,
    )


def waiting(job: Job, pods: Sequence[Pod]) -> Waiting | None:
    """Why the first Pod that waits for something unusual does; None when none does."""
    for pod in pods:
        if pod.is_over or pod.deleted:
            continue
        if pod.reason == "Unschedulable":
            return Waiting(reason=pod.reason, message=pod.message, pod=pod.name)
        for container in (*pod.init, *pod.sidecars, *pod.containers):
            if container.state == "waiting" and container.reason not in ROUTINE:
                return Waiting(reason=container.reason or "", message=container.message, pod=pod.name)
    return None


def summary(job: Job, pods: Sequence[Pod]) -> tuple[str | None, int, str, str]:
    """What of the life is worth a step of its own when it changes; NOTHING for a Job that goes its usual way."""
    if not pods and not job.is_indexed:
        return NOTHING
    wait = waiting(job, pods)
    ended = sum(1 for pod in pods if pod.phase == "Failed") + sum(c.restarts for pod in pods for c in pod.containers)
    return wait.reason if wait else None, ended, job.completed_indexes, job.failed_indexes


def life(job: Job, pods: Sequence[Pod], standing: JobStatus, logs: LogsOf) -> dict[str, bytes]:
    """The fields of the record that are no event; an empty one is to be taken out. The ledger takes them out itself as far as
    they end with a status."""
    found: dict[str, bytes] = {}
    if pods and not standing.is_terminal:
        wait = waiting(job, pods)
        found["waiting"] = msgspec.json.encode(wait) if wait is not None else b""
        found["attempts"] = msgspec.json.encode(attempts(job, pods, logs))
    if standing.has_run and (started := first_start(job, pods)) is not None:
        found["started_at"] = started.encode()
    if job.is_indexed:
        found["indexes"] = msgspec.json.encode(
            Indexes(completed=job.completed_indexes, failed=job.failed_indexes, total=job.completions)
        )
    return found


def _is_plain(of: PodOutcome) -> bool:
    """One Pod that runs, or did well: most Jobs are no more than this, and have no progress to publish."""
    pod, container = of.pod, of.container
    if of.role == "init" or container.previous is not None or pod.phase == "Failed" or pod.index is not None:
        return False
    return container.state != "terminated" or pod.is_over


def _kind(job: Job, of: PodOutcome, words: Sequence[PodOutcome], failed: Sequence[PodOutcome]) -> Kind | None:
    pod, ended = of.pod, of.ended
    verdict = job.end or job.target
    is_failing = verdict is not None and verdict.type in ("Failed", "FailureTarget")
    if ended is not None and of.container.state == "waiting":
        return "main-ended" if is_failing else "attempt-ended"  # it waits to be restarted
    if pod.phase == "Succeeded":
        return "index-finished" if pod.index is not None and job.is_indexed else None
    if not pod.is_over:
        return "main-ended" if ended is not None and of.role == "main" and _is_held_open(of) else None
    if not of.has_failed:
        return None
    if pod.index is not None and in_intervals(pod.index, job.failed_indexes):
        return "index-finished"
    if is_replaced(of, words):
        return "attempt-ended"
    if is_failing:
        return "main-ended"
    is_counted = job.end is None and job.target is None and failed.index(of) < job.failed
    return "attempt-ended" if is_counted else None


def _is_held_open(of: PodOutcome) -> bool:
    def runs(container: Container) -> bool:
        return container.name != of.container.name and container.state == "running"

    return any(map(runs, of.pod.containers))


def _finished_at(of: PodOutcome) -> tuple[str, str]:
    return (of.ended.finished_at or "" if of.ended else "~", of.pod.name)


def _id(job: Job, of: PodOutcome, instance: int, key: str | None = None) -> str:
    return event_id(job.uid, "progress", key or f"{of.pod.uid}/{of.container.name}/{instance}")
