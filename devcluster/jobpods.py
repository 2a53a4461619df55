"""The Pods of a Job: matching them, and making new ones. Pure, but for the random end of a name."""

from __future__ import annotations

from devcluster.clock import parse
from devcluster.errors import Obj
from devcluster.jobindexes import INDEX
from devcluster.registry import suffix
from devcluster.store import clone

TRACKING = "batch.kubernetes.io/job-tracking"
FAILURE_COUNT = "batch.kubernetes.io/job-index-failure-count"


def phase(pod: Obj) -> str:
    return str(pod["status"].get("phase", "Pending"))


def is_active(pod: Obj) -> bool:
    return phase(pod) not in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp")


def is_terminating(pod: Obj) -> bool:
    return phase(pod) not in ("Succeeded", "Failed") and bool(pod["metadata"].get("deletionTimestamp"))


def is_ready(pod: Obj) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])


def is_tracked(pod: Obj) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or [])


def replaces_only_failed(job: Obj) -> bool:
    return bool(job["spec"].get("podFailurePolicy")) or job["spec"].get("podReplacementPolicy") == "Failed"


def is_failed(job: Obj, pod: Obj) -> bool:
    """A Pod on its way out counts as failed at once, unless its exit code still matters."""
    if phase(pod) == "Failed":
        return True
    return not replaces_only_failed(job) and is_terminating(pod)


def restarts(pod: Obj) -> int:
    status = pod["status"]
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return sum(container["restartCount"] for container in statuses)


def failure_count(pod: Obj) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(FAILURE_COUNT, 0))


def finished_at(pod: Obj) -> float:
    """Unix time of its last container's end; of its deletion if no container has one."""
    ends = [
        parse(ended["finishedAt"])
        for status in pod["status"].get("containerStatuses") or []
        if (ended := status["state"].get("terminated")) and ended.get("finishedAt")
    ]
    return max(ends, default=parse(pod["metadata"].get("deletionTimestamp") or pod["metadata"]["creationTimestamp"]))


def new_pod(job: Obj, index: int | None, failures: int) -> Obj:
    """From the Job's template, with what ties it to the Job."""
    template = clone(job["spec"]["template"])
    name = job["metadata"]["name"]
    prefix = f"{name}-" if index is None else f"{name}-{index}-"
    meta: Obj = {"name": prefix + suffix(), "generateName": prefix, "labels": template["metadata"]["labels"]}
    annotations = dict(template["metadata"].get("annotations") or {})
    spec = template["spec"]
    if index is not None:
        annotations[INDEX] = str(index)
        meta["labels"][INDEX] = str(index)
        spec.setdefault("hostname", f"{name}-{index}")
        if job["spec"].get("backoffLimitPerIndex") is not None:
            annotations[FAILURE_COUNT] = str(failures)
        path = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            if all(item["name"] != "JOB_COMPLETION_INDEX" for item in container.get("env") or []):
                container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "valueFrom": path})
    if annotations:
        meta["annotations"] = annotations
    meta["ownerReferences"] = [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": job["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    meta["finalizers"] = [TRACKING]
    return {"metadata": meta, "spec": spec}
