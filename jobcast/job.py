"""A Job and its Pods, trimmed to what somebody reads. Pure.

The API server's JSON is decoded into small wire structs (whatever is not named here is skipped while decoding), and
those are flattened into Job and Pod. Times stay the API server's own strings, RFC 3339 in UTC; `unix` reads one.
"""

import math
from datetime import datetime
from typing import Any

import msgspec

CONTAINER_ANNOTATION = "jobcast/container"
DEFAULT_CONTAINER = "evaluation"
TIMEOUT_ANNOTATION = "timeout"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
_INDEX_DIGITS = 11
"""An index is an int32; what is longer is somebody's joke, and too much of it is more than int() takes."""
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
"""On every Pod that the Job controller makes (Kubernetes 1.27 and later)."""
LOST_CONTAINER = "ContainerStatusUnknown"
"""The kubelet's reason for a container it could not find when its Pod ended. The exit code it writes beside it, 137, is made
up: the container may have ended otherwise, or never have started."""


def unix(time: str) -> float:
    """Unix seconds of an RFC 3339 time as the API server writes it. Raises ValueError."""
    return datetime.fromisoformat(time).timestamp()


class _Wire(msgspec.Struct, rename="camel", gc=False):
    """Decoded and thrown away. gc=False: no cycles can arise from JSON, and half the decoding time was the collector."""


class _Owner(_Wire):
    uid: str = ""
    controller: bool = False


class WireMeta(_Wire):
    uid: str = ""
    name: str = ""
    namespace: str = ""
    resource_version: str = "0"
    creation_timestamp: str | None = None
    """null in a bookmark, which has a version and nothing else."""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class Condition(msgspec.Struct, rename="camel", frozen=True, gc=False):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class _JobSpec(_Wire):
    completions: int | None = None
    active_deadline_seconds: float | None = None


class _JobStatus(_Wire):
    start_time: str | None = None
    completion_time: str | None = None
    active: int | None = None
    ready: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    conditions: list[Condition] | None = None


class WireJob(_Wire):
    metadata: WireMeta
    spec: _JobSpec | None = None
    status: _JobStatus | None = None


class _Running(_Wire):
    started_at: str | None = None


class _Terminated(_Wire):
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: str | None = None
    finished_at: str | None = None


class _Waiting(_Wire):
    reason: str | None = None
    message: str | None = None


class _ContainerState(_Wire):
    running: _Running | None = None
    terminated: _Terminated | None = None
    waiting: _Waiting | None = None


class _ContainerStatus(_Wire):
    name: str = ""
    restart_count: int = 0
    state: _ContainerState | None = None
    last_state: _ContainerState | None = None


class _ContainerSpec(_Wire):
    name: str = ""


class _PodSpec(_Wire):
    containers: list[_ContainerSpec] | None = None
    """null in a bookmark."""


class _PodStatus(_Wire):
    phase: str = ""
    reason: str | None = None
    message: str | None = None
    container_statuses: list[_ContainerStatus] | None = None


class WirePod(_Wire):
    metadata: WireMeta
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What anybody reads of a Job; about 1 KB with its strings."""

    uid: str
    namespace: str
    name: str
    version: int
    """The resourceVersion, comparable as an integer: one etcd, one counter."""
    eval_id: str
    has_eval_id: bool
    """False: it is told under its own name."""
    created: str
    deleted: str | None
    """When its deletion was asked for; None while nobody has."""
    started: str | None
    completed: str | None
    labels: dict[str, str] | None
    """The allow-listed ones; None for none of them."""
    container: str | None
    """The main container's name, where the annotation says one."""
    timeout: float | None
    active: int
    ready: int
    ended_pods: int
    """succeeded + failed. Told as a last known state and used as a sign of having run; never decides a status."""
    is_empty: bool
    """Asks for no completions at all."""
    end: Condition | None
    """The condition Complete or Failed that is True."""
    suspended: Condition | None
    """The condition Suspended that is True."""
    was_suspended: bool
    """It has a condition Suspended that is False: it runs anew, and Pods of the former run may still be around."""


class Container(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One container of a Pod, as the kubelet reported it last."""

    name: str
    state: str
    """waiting, running or terminated."""
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    restarts: int = 0
    has_run: bool = False
    """It runs, or ran, or ran before a restart."""


class Pod(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    uid: str
    namespace: str
    name: str
    version: int
    owner: str
    """uid of the Job that controls it; empty for a Pod without one."""
    index: int | None
    deleted: bool
    """Its deletion was asked for."""
    gone: bool = False
    """The API server has it no more; this is how it was seen last."""
    phase: str
    reason: str | None
    """The Pod's own: Evicted, NodeLost, DeadlineExceeded, …"""
    first: str
    """Name of the first container of the spec; statuses come sorted by name."""
    containers: tuple[Container, ...]


class Reading(msgspec.Struct, frozen=True):
    """How an installation reads its Jobs."""

    eval_id_label: str = "eval-id"
    metadata_labels: tuple[str, ...] = ("pipeline",)

    def job(self, wire: WireJob) -> Job:
        """Flatten. Raises ValueError for an object that cannot be a stored Job (no uid or name)."""
        meta = _checked(wire.metadata)
        spec, status = wire.spec or _JobSpec(), wire.status or _JobStatus()
        labels, annotations = meta.labels or {}, meta.annotations or {}
        eval_id = labels.get(self.eval_id_label) or annotations.get(self.eval_id_label)
        end = suspended = None
        was_suspended = False
        for condition in status.conditions or ():
            if condition.type == "Suspended":
                was_suspended = condition.status != "True"
                suspended = None if was_suspended else condition
            elif condition.type in ("Complete", "Failed") and condition.status == "True":
                end = condition
        return Job(
            uid=meta.uid,
            namespace=meta.namespace,
            name=meta.name,
            version=int(meta.resource_version),
            eval_id=eval_id or meta.name,
            has_eval_id=bool(eval_id),
            created=meta.creation_timestamp or "",
            deleted=meta.deletion_timestamp,
            started=status.start_time,
            completed=status.completion_time,
            labels={name: labels[name] for name in self.metadata_labels if name in labels} or None,
            container=annotations.get(CONTAINER_ANNOTATION),
            timeout=_seconds(annotations.get(TIMEOUT_ANNOTATION)) or spec.active_deadline_seconds,
            active=status.active or 0,
            ready=status.ready or 0,
            ended_pods=(status.succeeded or 0) + (status.failed or 0),
            is_empty=spec.completions == 0,
            end=end,
            suspended=suspended,
            was_suspended=was_suspended,
        )

    def pod(self, wire: WirePod) -> Pod:
        """Flatten. Raises ValueError for an object that cannot be a stored Pod."""
        meta = _checked(wire.metadata)
        spec, status = wire.spec or _PodSpec(), wire.status or _PodStatus()
        index = (meta.annotations or {}).get(INDEX_ANNOTATION, "")
        return Pod(
            uid=meta.uid,
            namespace=meta.namespace,
            name=meta.name,
            version=int(meta.resource_version),
            owner=next((owner.uid for owner in meta.owner_references or () if owner.controller), ""),
            index=int(index) if index.isdecimal() and len(index) < _INDEX_DIGITS else None,
            deleted=meta.deletion_timestamp is not None,
            phase=status.phase,
            reason=status.reason,
            first=spec.containers[0].name if spec.containers else "",
            containers=tuple(map(_container, status.container_statuses or ())),
        )


def main_container(job: Job, pod: Pod) -> Container | None:
    """The container that decides: the one of the annotation, else `evaluation`, else the first of the spec."""
    by_name = {container.name: container for container in pod.containers}
    for name in (job.container, DEFAULT_CONTAINER, pod.first):
        if name and name in by_name:
            return by_name[name]
    return pod.containers[0] if pod.containers else None


def _checked(meta: WireMeta) -> WireMeta:
    if not meta.uid or not meta.name:
        raise ValueError(f"an object without {'uid' if not meta.uid else 'name'} cannot come from a store")
    return meta


def _seconds(text: str | None) -> float | None:
    """A `timeout` annotation: seconds, with or without an s. What makes no sense is no timeout: telling goes on."""
    try:
        seconds = float(text.strip().removesuffix("s")) if text else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _container(wire: _ContainerStatus) -> Container:
    state, last = wire.state or _ContainerState(), wire.last_state
    fields: dict[str, Any] = {"name": wire.name, "restarts": wire.restart_count}
    has_run = last is not None and last.terminated is not None and _started(last.terminated)
    if (ended := state.terminated) is not None:
        has_run = has_run or _started(ended)
        return Container(
            state="terminated",
            started_at=ended.started_at if _started(ended) else None,
            finished_at=ended.finished_at,
            exit_code=None if ended.reason == LOST_CONTAINER else ended.exit_code,
            reason=ended.reason,
            message=ended.message,
            has_run=has_run,
            **fields,
        )
    if (running := state.running) is not None:
        return Container(state="running", started_at=running.started_at, has_run=True, **fields)
    reason = state.waiting.reason if state.waiting else None
    return Container(state="waiting", reason=reason, has_run=has_run, **fields)


def _started(ended: _Terminated) -> bool:
    """Whether a terminated container ever ran: the kubelet writes the epoch where the runtime could not start it."""
    return ended.started_at is not None and not ended.started_at.startswith("1970-")
