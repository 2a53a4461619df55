"""Jobs and Pods as a real API server shows them, in size and in shape: 5.4 KB a Job, managedFields and all."""

import json
import uuid
from typing import Any

_MANAGED = [
    {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "batch/v1",
        "time": "2026-11-21T08:09:13Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {f"f:{part}": {f"f:field{n}": {} for n in range(40)} for part in ("metadata", "spec", "status")},
        "subresource": "status",
    }
] * 2


def job(number: int, *, version: int | None = None, ready: int = 1) -> dict[str, Any]:
    uid = str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))
    labels = {"app": "evaluation", "eval-id": f"evaluation-{number}", "pipeline": "benchmark", "team": "red"}
    container = {
        "name": "evaluation",
        "image": "registry.example/evaluations/runner:2026-11-01",
        "command": ["python", "-m", "runner", "--task", "mmlu", "--shard", str(number)],
        "env": [{"name": f"SETTING_{n}", "value": f"value-{n}"} for n in range(12)],
        "resources": {"limits": {"cpu": "2", "memory": "4Gi"}, "requests": {"cpu": "1", "memory": "2Gi"}},
    }
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": {
            "name": f"evaluation-{number}",
            "namespace": "evaluations",
            "uid": uid,
            "resourceVersion": str(1000 + (number if version is None else version)),
            "generation": 1,
            "creationTimestamp": "2026-11-21T08:09:09Z",
            "labels": labels,
            "annotations": {"timeout": "3600", "example.org/owner": "somebody@example.org"},
            "managedFields": _MANAGED,
        },
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 3,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}},
            "template": {
                "metadata": {"labels": labels | {"job-name": f"evaluation-{number}", "controller-uid": uid}},
                "spec": {"containers": [container], "restartPolicy": "Never"},
            },
        },
        "status": {
            "startTime": "2026-11-21T08:09:09Z",
            "active": 1,
            "ready": ready,
            "terminating": 0,
            "uncountedTerminatedPods": {},
        },
    }


def pod(number: int) -> dict[str, Any]:
    owner = job(number)["metadata"]["uid"]
    status = {"name": "evaluation", "restartCount": 0, "state": {"running": {"startedAt": "2026-11-21T08:09:10Z"}}}
    return {
        "metadata": {
            "name": f"evaluation-{number}-abcde",
            "namespace": "evaluations",
            "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, str(number))),
            "resourceVersion": str(500_000 + number),
            "ownerReferences": [{"kind": "Job", "uid": owner, "controller": True}],
        },
        "spec": {"containers": [{"name": "evaluation"}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def watch_lines(count: int, *, of: int = 1000) -> bytes:
    """So many MODIFIED events of so many Jobs, as a watch sends them."""
    templates = [json.dumps({"type": "MODIFIED", "object": job(number)}, separators=(",", ":")) for number in range(of)]
    return "\n".join(templates[number % of] for number in range(count)).encode() + b"\n"
