"""Label and field selectors, as the query string spells them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from devcluster.errors import Obj, bad_request
from devcluster.scheme import Resource

Matches = Callable[[Obj], bool]

_SET = re.compile(r"^\s*([^\s!=,()]+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^\s!=,()]+)\s*(==|!=|=)\s*([^\s!=,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s!=,()]+)\s*$")


def _split(text: str) -> list[str]:
    """At commas, except those inside the brackets of `in (a, b)`."""
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _label_requirement(text: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.match(text):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(text):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(text):
        negated, key = found.groups()
        return lambda labels: (key not in labels) if negated else (key in labels)
    beyond = re.sub(r"^\s*!?\s*[^\s!=,()]*\s*(==|!=|=)?", "", text).strip()
    raise bad_request(f"unable to parse requirement: found '{beyond[:1] or text.strip()}', expected: identifier")


def _value(obj: Obj, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def field(resource: Resource, obj: Obj, path: str) -> str:
    """The text a field selector compares with."""
    if path == "status.successful":  # the one selectable field of a Job is not a path: it is its success counter
        return str(obj.get("status", {}).get("succeeded", 0))
    if path == "source":
        return _value(obj, "source.component")
    return _value(obj, path)


def _field_requirement(resource: Resource, text: str) -> Matches:
    found = _EQUAL.match(text)
    if not found:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{text}'")
    path, operator, value = found.groups()
    if path not in ("metadata.name", "metadata.namespace", *resource.fields):
        known = resource.kind if resource.group else f'"{resource.kind}"'
        if resource.group:
            raise bad_request(f'field label "{path}" not supported for {known}')
        raise bad_request(f"field label not supported: {path}")
    wanted = operator != "!="
    return lambda obj: (field(resource, obj, path) == value) is wanted


def compile_selectors(resource: Resource, labels: str, fields: str) -> Matches | None:
    """One predicate for both selectors; None when everything matches."""
    by_label = [_label_requirement(part) for part in _split(labels)]
    by_field = [_field_requirement(resource, part) for part in _split(fields)]
    if not by_label and not by_field:
        return None

    def matches(obj: Obj) -> bool:
        own = obj["metadata"].get("labels") or {}
        return all(check(own) for check in by_label) and all(check(obj) for check in by_field)

    return matches
