"""podFailurePolicy and successPolicy. Pure."""

from __future__ import annotations

from typing import Any

from devcluster.errors import Obj
from devcluster.jobindexes import parse_indexes


def failure_action(job: Obj, pod: Obj) -> tuple[str, str]:
    """What the first matching rule says to do about a failed Pod (Count when none does), and the message for FailJob."""
    rules: list[Obj] = (job["spec"].get("podFailurePolicy") or {}).get("rules") or []
    for number, rule in enumerate(rules):
        action: str = rule["action"]
        if "onExitCodes" in rule:
            matched = _matching_container(rule["onExitCodes"], pod)
            if matched:
                name, code = matched
                meta = pod["metadata"]
                message = (
                    f"Container {name} for pod {meta['namespace']}/{meta['name']} failed with exit code {code} "
                    f"matching {action} rule at index {number}"
                )
                return action, message
        elif type_ := _matching_condition(rule.get("onPodConditions") or [], pod):
            meta = pod["metadata"]
            where = f"Pod {meta['namespace']}/{meta['name']}"
            return action, f"{where} has condition {type_} matching {action} rule at index {number}"
    return "Count", ""


def _matching_container(rule: Obj, pod: Obj) -> tuple[str, int] | None:
    status = pod["status"]
    for container in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
        code: Any = (container["state"].get("terminated") or {}).get("exitCode")
        # Zero never matches: a rule is about failures.
        if not code or rule.get("containerName") not in (None, container["name"]):
            continue
        if (code in rule["values"]) is (rule["operator"] == "In"):
            return container["name"], code
    return None


def _matching_condition(patterns: list[Obj], pod: Obj) -> str:
    for pattern in patterns:
        for condition in pod["status"].get("conditions") or []:
            if (condition["type"], condition["status"]) == (pattern["type"], pattern.get("status", "True")):
                return str(condition["type"])
    return ""


def matching_success_rule(job: Obj, succeeded: set[int]) -> int | None:
    """The first rule of the successPolicy that these indexes fulfil."""
    rules: list[Obj] = (job["spec"].get("successPolicy") or {}).get("rules") or []
    for number, rule in enumerate(rules):
        named = parse_indexes(rule["succeededIndexes"]) if rule.get("succeededIndexes") else None
        counted = succeeded if named is None else succeeded & named
        needed = rule.get("succeededCount", len(named) if named is not None else None)
        if needed is not None and len(counted) >= needed:
            return number
    return None
