"""The patch formats: merge, strategic merge and JSON patch. Pure."""

from __future__ import annotations

from typing import Any

from devcluster.errors import ApiError, Obj, bad_request

MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ownerReferences": "uid",
    "imagePullSecrets": "name",
}
"""Lists that a strategic merge patch merges by key instead of replacing, of the kinds served here."""


def apply_patch(content_type: str, obj: Obj, change: Any) -> Obj:
    """`obj` with the change applied; `obj` itself is left alone."""
    if content_type == "application/json-patch+json":
        return json_patch(obj, change)
    if content_type == "application/strategic-merge-patch+json":
        return _merge_dicts(obj, change, strategic=True)
    if content_type in ("application/merge-patch+json", "application/apply-patch+yaml"):
        return _merge_dicts(obj, change, strategic=False)
    raise ApiError(415, "415: Unsupported Media Type", details={})


def _merge(old: Any, change: Any, key: str, strategic: bool) -> Any:
    if isinstance(change, dict):
        return _merge_dicts(old if isinstance(old, dict) else {}, change, strategic)
    if strategic and isinstance(change, list):
        if key == "finalizers":
            return _merge_values(old or [], change)
        if key in MERGE_KEYS:
            return _merge_lists(old or [], change, MERGE_KEYS[key])
    return change


def _merge_dicts(old: Obj, change: Obj, strategic: bool) -> Obj:
    if strategic and change.get("$patch") == "replace":
        return {key: value for key, value in change.items() if key != "$patch"}
    merged = dict(old)
    for key, value in change.items():
        if strategic and key.startswith("$deleteFromPrimitiveList/"):
            name = key.split("/", 1)[1]
            merged[name] = [item for item in merged.get(name) or [] if item not in value]
        elif strategic and key.startswith("$"):
            continue  # $setElementOrder and $retainKeys only matter to lists that nothing here depends on
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value, key, strategic)
    return merged


def _merge_values(old: list[Any], change: list[Any]) -> list[Any]:
    """Both, each once. What is patched in comes first, except behind what it was behind already."""
    merged: list[Any] = []
    others = [item for item in old if item not in change]
    for item in dict.fromkeys(change):
        while others and item in old and old.index(others[0]) < old.index(item):
            merged.append(others.pop(0))
        merged.append(item)
    return merged + others


def _merge_lists(old: list[Obj], change: list[Obj], by: str) -> list[Obj]:
    merged = {item.get(by): item for item in old}
    for item in change:
        if item.get("$patch") == "delete":
            merged.pop(item.get(by), None)
        elif item.get("$patch") == "replace":
            merged = {}
        else:
            merged[item.get(by)] = _merge_dicts(merged.get(item.get(by), {}), item, strategic=True)
    return list(merged.values())


def json_patch(obj: Obj, operations: list[Obj]) -> Obj:
    """RFC 6902, without `move`'s rarer sibling cases: add, remove, replace, test, copy, move."""
    root: Any = obj
    for operation in operations:
        path = _pointer(operation["path"])
        match operation["op"]:
            case "add":
                root = _edit(root, path, operation.get("value"), "add")
            case "replace":
                _read(root, path)
                root = _edit(root, path, operation.get("value"), "replace")
            case "remove":
                root = _edit(root, path, None, "remove")
            case "test":
                if _read(root, path) != operation.get("value"):
                    raise _rejected()
            case "copy" | "move" as op:
                source = _pointer(operation["from"])
                value = _read(root, source)
                if op == "move":
                    root = _edit(root, source, None, "remove")
                root = _edit(root, path, value, "add")
            case other:
                raise bad_request(f"unexpected operation in JSON patch: {other}")
    result: Obj = root
    return result


def _rejected() -> ApiError:
    """All that a real server says of a test that failed and of a path that is not there."""
    return ApiError(422, "the server rejected our request due to an error in our request", details={})


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _read(node: Any, path: list[str]) -> Any:
    try:
        for part in path:
            node = node[int(part)] if isinstance(node, list) else node[part]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise _rejected() from error
    return node


def _edit(node: Any, path: list[str], value: Any, how: str) -> Any:
    """A copy of `node` with one place changed."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if rest:
        inner = _edit(_read(node, [head]), rest, value, how)
        how = "replace"
    else:
        inner = value
        if how == "remove":
            _read(node, [head])
    if isinstance(node, list):
        items = list(node)
        place = len(items) if head == "-" else int(head)
        if how == "add":
            items.insert(place, inner)
        elif how == "remove":
            del items[place]
        else:
            items[place] = inner
        return items
    if how == "remove":
        return {key: item for key, item in node.items() if key != head}
    return {**node, head: inner}
