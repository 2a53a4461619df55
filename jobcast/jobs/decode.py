"""The API server's JSON to Jobs and Pods. Pure.

It is decoded into small wire structs (whatever is not named here is skipped while decoding), and those are flattened into
what is kept.
"""

import math
from functools import lru_cache
from sys import intern

import msgspec

from jobcast.jobs.model import FINALIZER, JOB_UID_LABEL, Condition, Container, Ended, Job, Pod, unix

CONTAINER_ANNOTATION = "jobcast/container"
TIMEOUT_ANNOTATION = "timeout"
ARTIFACTS_ANNOTATION = "jobcast/artifacts"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
_INDEX_DIGITS = 11
"""An index is an int32; what is longer is somebody's joke, and too much of it is more than int() takes."""
_VERSION_DIGITS = 20
LOST_CONTAINER = "ContainerStatusUnknown"
"""The kubelet's reason for a container it could not find when its Pod ended. The exit code it writes beside it, 137, is made
up: the container may have ended otherwise, or never have started."""


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
    deletion_grace_period_seconds: float | None = None
    finalizers: list[str] | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Something(_Wire):
    """It is there; nobody reads what it says."""


class _JobSpec(_Wire):
    completions: int | None = None
    completion_mode: str = ""
    active_deadline_seconds: float | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    pod_failure_policy: _Something | None = None


class _JobStatus(_Wire):
    start_time: str | None = None
    completion_time: str | None = None
    active: int | None = None
    ready: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    completed_indexes: str = ""
    failed_indexes: str = ""
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


class _InitSpec(_Wire):
    name: str = ""
    restart_policy: str = ""


class _PodSpec(_Wire):
    containers: list[_ContainerSpec] | None = None
    """null in a bookmark."""
    init_containers: list[_InitSpec] | None = None
    restart_policy: str = ""


class _PodStatus(_Wire):
    phase: str = ""
    reason: str | None = None
    message: str | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    conditions: list[Condition] | None = None


class WirePod(_Wire):
    metadata: WireMeta
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


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
        end = suspended = target = None
        was_suspended = False
        for condition in status.conditions or ():
            if condition.type == "Suspended":
                was_suspended = condition.status != "True"
                suspended = None if was_suspended else condition
            elif condition.status != "True":
                continue
            elif condition.type in ("Complete", "Failed"):
                end = condition
            elif condition.type in ("SuccessCriteriaMet", "FailureTarget"):
                target = condition
        given = annotations.get(TIMEOUT_ANNOTATION)
        timeout = _seconds(given)
        return Job(
            uid=meta.uid,
            namespace=intern(meta.namespace),
            name=meta.name,
            version=int(meta.resource_version),
            eval_id=eval_id or meta.name,
            has_eval_id=bool(eval_id),
            created=meta.creation_timestamp or "",
            deleted=meta.deletion_timestamp,
            started=status.start_time,
            completed=status.completion_time,
            labels=_shared(self.metadata_labels, tuple(map(labels.get, self.metadata_labels))),
            container=annotations.get(CONTAINER_ANNOTATION),
            timeout=timeout or spec.active_deadline_seconds,
            bad_timeout=given if given and timeout is None else None,
            artifacts=annotations.get(ARTIFACTS_ANNOTATION),
            held=FINALIZER in (meta.finalizers or ()),
            active=status.active or 0,
            ready=status.ready or 0,
            failed=status.failed or 0,
            ended_pods=(status.succeeded or 0) + (status.failed or 0),
            completions=spec.completions,
            is_indexed=spec.completion_mode == "Indexed",
            retries=spec.backoff_limit
            if spec.pod_failure_policy is None and spec.backoff_limit_per_index is None
            else None,
            completed_indexes=status.completed_indexes,
            failed_indexes=status.failed_indexes,
            end=end,
            target=target,
            suspended=suspended,
            was_suspended=was_suspended,
        )

    def pod(self, wire: WirePod) -> Pod:
        """Flatten. Raises ValueError for an object that cannot be a stored Pod."""
        meta = _checked(wire.metadata)
        spec, status = wire.spec or _PodSpec(), wire.status or _PodStatus()
        index = (meta.annotations or {}).get(INDEX_ANNOTATION, "")
        reason, message = status.reason, status.message
        if reason is None:
            reason, message = _trouble(status.conditions or (), message)
        sidecars = {spec.name for spec in spec.init_containers or () if spec.restart_policy == "Always"}
        inits = [_container(container) for container in status.init_container_statuses or ()]
        return Pod(
            uid=meta.uid,
            namespace=intern(meta.namespace),
            name=meta.name,
            version=int(meta.resource_version),
            owner=next((owner.uid for owner in meta.owner_references or () if owner.controller), "")
            or (meta.labels or {}).get(JOB_UID_LABEL, ""),
            index=int(index) if index.isdecimal() and len(index) < _INDEX_DIGITS else None,
            asked=_asked(meta),
            restarts=spec.restart_policy == "OnFailure",
            phase=intern(status.phase),
            reason=reason,
            message=message or None,
            first=intern(spec.containers[0].name) if spec.containers else "",
            containers=tuple(map(_container, status.container_statuses or ())),
            init=tuple(container for container in inits if container.name not in sidecars),
            sidecars=tuple(container for container in inits if container.name in sidecars),
        )


@lru_cache(maxsize=1024)
def _shared(names: tuple[str, ...], values: tuple[str | None, ...]) -> dict[str, str] | None:
    """One dict for all Jobs with the same labels: a dict each is an eighth of a Job's memory."""
    return {name: value for name, value in zip(names, values, strict=True) if value is not None} or None


def is_version(text: str) -> bool:
    """Whether it is a resourceVersion that can be compared: an unsigned number of 64 bits or less."""
    return text.isascii() and text.isdecimal() and len(text) <= _VERSION_DIGITS


def _checked(meta: WireMeta) -> WireMeta:
    if not meta.uid or not meta.name:
        raise ValueError(f"an object without {'uid' if not meta.uid else 'name'} cannot come from a store")
    if not is_version(meta.resource_version):
        raise ValueError("an object whose resourceVersion is no number cannot be compared")
    return meta


def _seconds(text: str | None) -> float | None:
    """A `timeout` annotation: seconds, with or without an s. What makes no sense is no timeout: one goes on."""
    try:
        seconds = float(text.strip().removesuffix("s")) if text else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _asked(meta: WireMeta) -> float | None:
    """A Pod's deletionTimestamp is when its grace period ends, not when it was deleted."""
    if meta.deletion_timestamp is None:
        return None
    try:
        return unix(meta.deletion_timestamp) - (meta.deletion_grace_period_seconds or 0.0)
    except ValueError:
        return 0.0


def _trouble(conditions: list[Condition] | tuple[()], message: str | None) -> tuple[str | None, str | None]:
    """What a Pod's conditions say of why it is disrupted, or where it waits."""
    for condition in conditions:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return condition.reason, condition.message
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason, condition.message
    return None, message


def _container(wire: _ContainerStatus) -> Container:
    state, last = wire.state or _ContainerState(), wire.last_state
    previous = _ended(last.terminated) if last is not None and last.terminated is not None else None
    name, has_run = intern(wire.name), previous is not None and previous.started_at is not None
    if state.terminated is not None:
        ended = _ended(state.terminated)
        return Container(
            name=name,
            restarts=wire.restart_count,
            state="terminated",
            started_at=ended.started_at,
            finished_at=ended.finished_at,
            exit_code=ended.exit_code,
            reason=ended.reason,
            message=ended.message,
            has_run=has_run or ended.started_at is not None,
            previous=previous,
        )
    if (running := state.running) is not None:
        return Container(
            name=name,
            restarts=wire.restart_count,
            state="running",
            started_at=running.started_at,
            has_run=True,
            previous=previous,
        )
    waiting = state.waiting or _Waiting()
    return Container(
        name=name,
        restarts=wire.restart_count,
        state="waiting",
        reason=waiting.reason,
        message=waiting.message,
        has_run=has_run,
        previous=previous,
    )


def _ended(wire: _Terminated) -> Ended:
    return Ended(
        started_at=wire.started_at if _started(wire) else None,
        finished_at=wire.finished_at,
        exit_code=None if wire.reason == LOST_CONTAINER else wire.exit_code,
        reason=intern(wire.reason) if wire.reason else None,
        message=wire.message or None,
    )


def _started(ended: _Terminated) -> bool:
    """Whether a terminated container ever ran: the kubelet writes the epoch where the runtime could not start it."""
    return ended.started_at is not None and not ended.started_at.startswith("1970-")
