"""Jobs and Pods as the API server writes them, with only what a test wants to say of them."""

import json
from typing import Any

from jobcast.jobs.decode import Reading
from jobcast.jobs.model import Job, Pod
from jobcast.kube import JOBS, PODS

UID = "6f9d3b52-63a5-4a83-9a41-0d1d3f6a7c10"
CREATED = "2026-11-20T09:59:58Z"
STARTED = "2026-11-20T10:00:00Z"
RAN = "2026-11-20T10:00:02Z"
ENDED = "2026-11-20T10:01:02Z"
RESUMED = "2026-11-20T11:00:00Z"
READING = Reading()


def condition(kind: str, status: str = "True", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": ENDED, **fields}


def job_json(
    *,
    uid: str = UID,
    name: str = "eval-42",
    version: int | str = 100,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    deleted: str | None = None,
    spec: dict[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    **status: Any,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "uid": uid,
        "name": name,
        "namespace": "evals",
        "resourceVersion": str(version),
        "creationTimestamp": CREATED,
        "labels": {"app": "evaluation", "eval-id": "42"} if labels is None else labels,
    }
    if annotations is not None:
        metadata["annotations"] = annotations
    if deleted is not None:
        metadata["deletionTimestamp"] = deleted
    if conditions is not None:
        status["conditions"] = conditions
    return {"metadata": metadata | (meta or {}), "spec": spec or {}, "status": status}


def job(reading: Reading = READING, **fields: Any) -> Job:
    return JOBS.one(json.dumps(job_json(**fields)).encode(), reading)


def running_state(started: str = RAN) -> dict[str, Any]:
    return {"running": {"startedAt": started}}


def ended_state(code: int = 0, started: str | None = RAN, finished: str = ENDED, **fields: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "startedAt": started, "finishedAt": finished, **fields}}


def waiting_state(reason: str = "ContainerCreating") -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


START_ERROR = ended_state(128, "1970-01-01T00:00:00Z", reason="StartError")
"""What the kubelet writes of a container that the runtime could not start."""


def container_json(state: dict[str, Any] | None, name: str = "main", **fields: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "restartCount": 0, **fields}


def pod_json(
    *states: dict[str, Any],
    name: str = "eval-42-abcde",
    uid: str | None = None,
    owner: str = UID,
    version: int = 200,
    containers: list[dict[str, Any]] | None = None,
    names: tuple[str, ...] = ("main",),
    annotations: dict[str, str] | None = None,
    deleted: bool = False,
    meta: dict[str, Any] | None = None,
    init_specs: list[dict[str, Any]] | None = None,
    restart_policy: str = "Never",
    **status: Any,
) -> dict[str, Any]:
    """`states`: of the only container, at most one. `containers` are whole statuses, for Pods that have several."""
    metadata: dict[str, Any] = {
        "uid": uid or f"uid of {name}",
        "name": name,
        "namespace": "evals",
        "resourceVersion": str(version),
        "creationTimestamp": CREATED,
        "ownerReferences": [{"uid": owner, "controller": True}],
    }
    if annotations is not None:
        metadata["annotations"] = annotations
    if deleted:
        metadata["deletionTimestamp"] = ENDED
    if containers is None and states:
        containers = [container_json(states[0])]
    if containers is not None:
        status["containerStatuses"] = containers
    spec: dict[str, Any] = {"containers": [{"name": one} for one in names], "restartPolicy": restart_policy}
    if init_specs is not None:
        spec["initContainers"] = init_specs
    return {"metadata": metadata | (meta or {}), "spec": spec, "status": status}


def pod(*states: dict[str, Any], **fields: Any) -> Pod:
    return PODS.one(json.dumps(pod_json(*states, **fields)).encode(), READING)
