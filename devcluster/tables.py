"""Tables, as kubectl prints them: the server picks the columns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from devcluster.clock import parse
from devcluster.errors import Obj
from devcluster.jobstatus import is_true
from devcluster.scheme import EVENTS, JOBS, NAMESPACES, NODES, PODS, Resource

Row = Callable[[Obj], list[Any]]


def age(text: str | None, until: str | None = None) -> str:
    """`5s`, `3m12s`, `2d`: as short as kubectl's."""
    if not text:
        return ""
    seconds = int((parse(until) if until else time.time()) - parse(text))
    for unit, size, smaller, next_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= 2 * size:
            rest = seconds % size // next_size
            return f"{seconds // size}{unit}" + (f"{rest}{smaller}" if rest and seconds < 10 * size else "")
    return f"{max(seconds, 0)}s"


def _job(job: Obj) -> list[Any]:
    status, spec = job["status"], job["spec"]
    word = "Running"
    for type_ in ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if is_true(status, type_):
            word = type_
            break
    wanted = spec.get("completions", f"1 of {spec.get('parallelism', 1)}")
    duration = age(status.get("startTime"), status.get("completionTime"))
    return [job["metadata"]["name"], word, f"{status.get('succeeded', 0)}/{wanted}", duration, _born(job)]


def _pod(pod: Obj) -> list[Any]:
    states = pod["status"].get("containerStatuses") or []
    word = pod["status"].get("reason") or pod["status"].get("phase", "")
    for state in states:
        told = state["state"].get("waiting") or state["state"].get("terminated") or {}
        word = told.get("reason", word)
    if pod["metadata"].get("deletionTimestamp"):
        word = "Terminating"
    ready = f"{sum(state['ready'] for state in states)}/{len(pod['spec']['containers'])}"
    return [pod["metadata"]["name"], ready, word, str(sum(s["restartCount"] for s in states)), _born(pod)]


def _event(event: Obj) -> list[Any]:
    about = event["involvedObject"]
    last = event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
    return [age(last), event["type"], event["reason"], f"{about['kind'].lower()}/{about['name']}", event["message"]]


def _namespace(namespace: Obj) -> list[Any]:
    return [namespace["metadata"]["name"], namespace["status"]["phase"], _born(namespace)]


def _node(node: Obj) -> list[Any]:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions") or [])
    return [node["metadata"]["name"], "Ready" if ready else "NotReady", _born(node)]


def _born(obj: Obj) -> str:
    return age(obj["metadata"]["creationTimestamp"])


_TABLES: dict[Resource, tuple[list[str], Row]] = {
    JOBS: (["Name", "Status", "Completions", "Duration", "Age"], _job),
    PODS: (["Name", "Ready", "Status", "Restarts", "Age"], _pod),
    EVENTS: (["Last Seen", "Type", "Reason", "Object", "Message"], _event),
    NAMESPACES: (["Name", "Status", "Age"], _namespace),
    NODES: (["Name", "Status", "Age"], _node),
}


def table(resource: Resource, obj: Obj) -> Obj:
    """One object or a List, as a Table."""
    names, row = _TABLES[resource]
    items = obj.get("items", [obj])
    columns = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "description": "", "priority": 0}
        for name in names
    ]
    meta = {
        key: obj["metadata"][key]
        for key in ("resourceVersion", "continue", "remainingItemCount")
        if key in obj["metadata"]
    }
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": columns,
        "rows": [
            {
                "cells": row(item),
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": item["metadata"],
                },
            }
            for item in items
        ],
    }
