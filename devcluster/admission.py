"""What the server fills in and refuses before it stores a Job, a Pod or a Namespace. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from devcluster.errors import Obj, invalid
from devcluster.names import Cause, label_causes, metadata_causes
from devcluster.scheme import JOBS, NAMESPACES, NODES, PODS, Resource

Causes = list[Cause]

REQUIRED = "FieldValueRequired"
INVALID = "FieldValueInvalid"
FORBIDDEN = "FieldValueForbidden"

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
IMMUTABLE = "field is immutable"


def prepare(resource: Resource, obj: Obj) -> None:
    """Fill in the defaults of a new object, in place; raises 422 when it cannot be accepted."""
    name = obj["metadata"]["name"]
    causes: Causes = metadata_causes(obj["metadata"])
    if resource is JOBS:
        _prepare_job(obj, causes)
    elif resource is PODS:
        obj.setdefault("spec", {})
        causes += _pod_spec_causes(obj["spec"], "spec", ("Always", "OnFailure", "Never"))
        if not causes:
            default_pod_spec(obj["spec"], restart_policy="Always")
            obj["status"] = {"phase": "Pending", "qosClass": _quality(obj["spec"])}
    elif resource is NAMESPACES:
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    elif resource is NODES:
        obj.setdefault("spec", {})
        obj.setdefault("status", {})
    if causes:
        raise invalid(resource, name, causes)


def _prepare_job(obj: Obj, causes: Causes) -> None:
    spec: Obj = obj.get("spec") or {}
    template = spec.get("template") or {}
    pod_spec = template.get("spec") or {}
    for number in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if (spec.get(number) or 0) < 0:
            message = f"Invalid value: {spec[number]}: must be greater than or equal to 0"
            causes.append((INVALID, f"spec.{number}", message))
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        message = "Required value: when completion mode is Indexed"
        causes.append((REQUIRED, "spec.completions", message))
    causes += _pod_spec_causes(pod_spec, "spec.template.spec", ("OnFailure", "Never"))
    if spec.get("podFailurePolicy") and pod_spec.get("restartPolicy") == "OnFailure":
        message = 'Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified'
        causes.append((INVALID, "spec.template.spec.restartPolicy", message))
    labels = (template.get("metadata") or {}).get("labels") or {}
    causes += label_causes({**labels, "job-name": obj["metadata"]["name"]}, "spec.template.labels")
    if causes:
        return
    uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
    labels = template.setdefault("metadata", {}).get("labels") or {}
    named = {CONTROLLER_UID: uid, JOB_NAME: name, "controller-uid": uid, "job-name": name}
    own = {} if spec.get("manualSelector") else named
    template["metadata"]["labels"] = {**labels, **own}
    inherit_labels(obj)
    default_pod_spec(pod_spec, restart_policy="Never")
    spec.setdefault("selector", {"matchLabels": {CONTROLLER_UID: uid}})
    obj["spec"] = _defaulted(spec)
    obj["status"] = {}


def _defaulted(spec: Obj) -> Obj:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    defaults: Obj = {
        "parallelism": 1,
        "backoffLimit": 2147483647 if spec.get("backoffLimitPerIndex") is not None else 6,
        "manualSelector": False,
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed",
    }
    return {**defaults, **{key: value for key, value in spec.items() if value is not None}}


def _pod_spec_causes(spec: Obj, path: str, policies: tuple[str, ...]) -> Causes:
    causes: Causes = []
    if not spec.get("containers"):
        causes.append((REQUIRED, f"{path}.containers", "Required value"))
    for at, container in enumerate(spec.get("containers") or []):
        for field in ("name", "image"):
            if not container.get(field):
                causes.append((REQUIRED, f"{path}.containers[{at}].{field}", "Required value"))
    policy = spec.get("restartPolicy")
    if policy is None and "Always" not in policies:
        known = ", ".join(f'"{name}"' for name in policies)
        causes.append((REQUIRED, f"{path}.restartPolicy", f"Required value: valid values: {known}"))
    elif policy is not None and policy not in policies:
        known = ", ".join(f'"{name}"' for name in policies)
        message = f'Unsupported value: "{policy}": supported values: {known}'
        causes.append(("FieldValueNotSupported", f"{path}.restartPolicy", message))
    return causes


def default_pod_spec(spec: Obj, restart_policy: str) -> None:
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        latest = ":" not in container["image"].rsplit("/", 1)[-1] or container["image"].endswith(":latest")
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    spec.setdefault("restartPolicy", restart_policy)
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")


def _quality(spec: Obj) -> str:
    """The Pod's quality-of-service class."""
    resources = [container["resources"] for container in spec["containers"]]
    if not any(part.get("limits") or part.get("requests") for part in resources):
        return "BestEffort"
    even = all(
        {"cpu", "memory"} <= set(part.get("limits") or {}) and part.get("requests", part["limits"]) == part["limits"]
        for part in resources
    )
    return "Guaranteed" if even else "Burstable"


def inherit_labels(job: Obj) -> None:
    """A Job without labels of its own gets its template's, with those that tie the Pods to it."""
    labels = (job["spec"].get("template") or {}).get("metadata", {}).get("labels")
    if labels and not job["metadata"].get("labels"):
        job["metadata"]["labels"] = dict(labels)


def check_metadata(resource: Resource, meta: Obj) -> None:
    if causes := metadata_causes(meta):
        raise invalid(resource, meta["name"], causes)


def check_finalizers(resource: Resource, old: Obj, meta: Obj) -> None:
    """What is being deleted takes no new ones."""
    if "deletionTimestamp" not in old:
        return
    new = sorted(set(meta.get("finalizers") or []) - set(old.get("finalizers") or []))
    if new:
        shown = ", ".join(f'"{name}"' for name in new)
        why = "no new finalizers can be added if the object is being deleted, found new finalizers"
        raise invalid(
            resource, meta["name"], [(FORBIDDEN, "metadata.finalizers", f"Forbidden: {why} []string{{{shown}}}")]
        )


def check_update(resource: Resource, old: Obj, new: Obj) -> None:
    """Refuse changes of what may not change."""
    if resource is not JOBS:
        return
    causes: Causes = []
    was = old["spec"]
    now = new["spec"] = _defaulted(new.get("spec") or {})
    if (now.get("template") or {}).get("spec", {}).get("containers"):
        default_pod_spec(now["template"]["spec"], restart_policy="Never")
    frozen = ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    may_resize = was["completionMode"] == "Indexed" and now.get("completions") == now.get("parallelism")
    if not may_resize:
        frozen.append("completions")
    never_started = was.get("suspend") and not old["status"].get("startTime")
    if not never_started:
        frozen.append("template")
    for field in frozen:
        if was.get(field) != now.get(field):
            causes.append((INVALID, f"spec.{field}", f"Invalid value: {_shown(now.get(field))}: {IMMUTABLE}"))
    if causes:
        raise invalid(resource, new["metadata"]["name"], causes)


def _shown(value: Any) -> str:
    """Nearly as Go would print it."""
    return msgspec.json.encode(value).decode()
