"""The API server's JSON to Jobs and Pods. Pure.

It is decoded into small wire structs, which skip every other field, and those are flattened into what is kept.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from sys import intern

import msgspec

from jobcast.event import MAX_EVAL_ID_BYTES
from jobcast.jobs.model import FINALIZER, JOB_UID_LABEL, Condition, Container, Ended, Job, Pod, is_version, unix

CONTAINER_ANNOTATION = "jobcast/container"
TIMEOUT_ANNOTATION = "timeout"
ARTIFACTS_ANNOTATION = "jobcast/artifacts"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
_INDEX_DIGITS = 11
"""An index is an int32; int() refuses text that is far too long."""
LOST_CONTAINER = "ContainerStatusUnknown"
"""The kubelet's reason for a container that it could not find when its Pod ended. The exit code that it writes with it, 137, is
invented: the container may have ended otherwise, or never have started."""


class _Wire(msgspec.Struct, rename="camel", gc=False):
    """Lives for one decoding. gc=False: JSON has no cycles, and the collector took half of the decoding time."""


class _Owner(_Wire):
    uid: str = ""
    kind: str = "Job"
    controller: bool = False


class WireMeta(_Wire):
    uid: str = ""
    name: str = ""
    namespace: str = ""
    resource_version: str = "0"
    creation_timestamp: str | None = None
    """null in a bookmark, which only has a version."""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: float | None = None
    finalizers: list[str] | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Something(_Wire):
    """Its presence matters, its content does not."""


class _Requirement(_Wire):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class _Selector(_Wire):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Requirement] | None = None


class _JobSpec(_Wire):
    completions: int | None = None
    completion_mode: str = ""
    active_deadline_seconds: float | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    pod_failure_policy: _Something | None = None
    suspend: bool | None = None
    manual_selector: bool | None = None
    selector: _Selector | None = None


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
    restart_policy: str | None = None
    """Of a container that is none of init: Kubernetes 1.35."""
    restart_policy_rules: list[_Something] | None = None


class _PodSpec(_Wire):
    containers: list[_ContainerSpec] | None = None
    """null in a bookmark."""
    init_containers: list[_ContainerSpec] | None = None
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
    """How this installation reads its Jobs."""

    eval_id_label: str = "eval-id"
    metadata_labels: tuple[str, ...] = ("pipeline",)

    def job(self, wire: WireJob) -> Job:
        """Flatten. Raises ValueError for an object that cannot be a stored Job (no uid or name)."""
        meta = _checked(wire.metadata)
        spec, status = wire.spec or _JobSpec(), wire.status or _JobStatus()
        labels, annotations = meta.labels or {}, meta.annotations or {}
        bad_eval_id: str | None = None
        eval_id = labels.get(self.eval_id_label) or annotations.get(self.eval_id_label)
        if eval_id and len(eval_id.encode()) > MAX_EVAL_ID_BYTES:
            bad_eval_id, eval_id = eval_id[:64], None
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
            bad_eval_id=bad_eval_id,
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
            selector=_query(spec.selector) if spec.manual_selector and spec.selector else None,
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
            is_to_be_suspended=spec.suspend or False,
            was_suspended=was_suspended,
        )

    def pod(self, wire: WirePod) -> Pod:
        """Flatten. Raises ValueError for an object that cannot be a stored Pod."""
        meta = _checked(wire.metadata)
        spec, status = wire.spec or _PodSpec(), wire.status or _PodStatus()
        index = (meta.annotations or {}).get(INDEX_ANNOTATION, "")
        reason, message = status.reason, status.message
        if reason is None:
            reason, message = _waits_or_disrupted(status.conditions or (), message)
        sidecars = {spec.name for spec in spec.init_containers or () if spec.restart_policy == "Always"}
        inits = [_container(container) for container in status.init_container_statuses or ()]
        return Pod(
            uid=meta.uid,
            namespace=intern(meta.namespace),
            name=meta.name,
            version=int(meta.resource_version),
            owner=next((one.uid for one in meta.owner_references or () if one.controller and one.kind == "Job"), "")
            or (meta.labels or {}).get(JOB_UID_LABEL, ""),
            index=int(index) if index.isdecimal() and len(index) < _INDEX_DIGITS else None,
            created=meta.creation_timestamp or "",
            asked=_asked(meta),
            restarted=_names(spec, lambda one: _policy(one, spec) in ("OnFailure", "Always")),
            reruns=_names(spec, lambda one: _policy(one, spec) == "Always"),
            phase=intern(status.phase),
            reason=reason,
            message=message or None,
            first=intern(spec.containers[0].name) if spec.containers else "",
            containers=tuple(map(_container, status.container_statuses or ())),
            init=tuple(container for container in inits if container.name not in sidecars),
            sidecars=tuple(container for container in inits if container.name in sidecars),
        )


def _names(spec: _PodSpec, matches: Callable[[_ContainerSpec], bool]) -> tuple[str, ...]:
    return tuple(intern(one.name) for one in (*(spec.containers or ()), *(spec.init_containers or ())) if matches(one))


def _policy(container: _ContainerSpec, spec: _PodSpec) -> str:
    """A container's own policy wins over its Pod's. Which exit codes its rules name is left to the kubelet: it may be any."""
    return "Always" if container.restart_policy_rules else container.restart_policy or spec.restart_policy


def _query(selector: _Selector) -> str:
    """The selector as a request's parameter."""
    found = [f"{key}={value}" for key, value in (selector.match_labels or {}).items()]
    for one in selector.match_expressions or ():
        values = ",".join(one.values or ())
        forms = {
            "In": f"{one.key} in ({values})",
            "NotIn": f"{one.key} notin ({values})",
            "DoesNotExist": f"!{one.key}",
        }
        found.append(forms.get(one.operator, one.key))
    return ",".join(found)


@lru_cache(maxsize=1024)
def _shared(names: tuple[str, ...], values: tuple[str | None, ...]) -> dict[str, str] | None:
    """One dict for all Jobs with the same labels: a dict each is an eighth of a Job's memory."""
    return {name: value for name, value in zip(names, values, strict=True) if value is not None} or None


def _checked(meta: WireMeta) -> WireMeta:
    if not meta.uid or not meta.name:
        raise ValueError(f"an object without {'uid' if not meta.uid else 'name'} is not a stored one")
    if not is_version(meta.resource_version):
        raise ValueError("the object's resourceVersion is not a number")
    return meta


def _seconds(text: str | None) -> float | None:
    """A `timeout` annotation: seconds, with or without an s; None for nonsense."""
    try:
        seconds = float(text.strip().removesuffix("s")) if text else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _asked(meta: WireMeta) -> float | None:
    """When the deletion was requested: a Pod's deletionTimestamp is when its grace period ends."""
    if meta.deletion_timestamp is None:
        return None
    try:
        return unix(meta.deletion_timestamp) - (meta.deletion_grace_period_seconds or 0.0)
    except ValueError:
        return 0.0


def _waits_or_disrupted(conditions: list[Condition] | tuple[()], message: str | None) -> tuple[str | None, str | None]:
    """Why the Pod is disrupted or not scheduled, as its conditions say: reason and message."""
    for condition in conditions:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return condition.reason, condition.message
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason, condition.message
    return None, message


def _container(wire: _ContainerStatus) -> Container:
    state, last = wire.state or _ContainerState(), wire.last_state
    previous = _ended(last.terminated) if last is not None and last.terminated is not None else None
    ended = _ended(state.terminated) if state.terminated is not None else None
    running = state.running if ended is None else None
    waiting = (state.waiting or _Waiting()) if ended is None and running is None else None
    shown, began = ended or waiting, ended or running
    started_at = began.started_at if began is not None else None
    return Container(
        name=intern(wire.name),
        restarts=wire.restart_count,
        state="terminated" if ended is not None else "running" if running is not None else "waiting",
        started_at=started_at,
        finished_at=ended.finished_at if ended is not None else None,
        exit_code=ended.exit_code if ended is not None else None,
        reason=shown.reason if shown is not None else None,
        message=shown.message if shown is not None else None,
        has_run=running is not None
        or started_at is not None
        or (previous is not None and previous.started_at is not None),
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
    """Whether a terminated container ever ran: the kubelet writes the epoch if the runtime could not start it."""
    return ended.started_at is not None and not ended.started_at.startswith("1970-")
