"""Lists: pages of one snapshot, selected."""

from __future__ import annotations

import base64
import json

from devcluster.errors import ApiError, Obj, bad_request, too_large
from devcluster.scheme import Target
from devcluster.selectors import compile_selectors
from devcluster.store import Key, Store
from devcluster.watch import version_of

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


def _token(version: int, start: Key) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": f"{start[0]}/{start[1]}\0"})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_token(token: str) -> tuple[int, Key]:
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        parsed = json.loads(text)
        namespace, name = parsed["start"].rstrip("\0").split("/", 1)
        return int(parsed["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {error}") from error


def list_objects(store: Store, target: Target, query: dict[str, str]) -> Obj:
    """The List object. `continue` goes on in the snapshot of the first page; when that is forgotten, 410."""
    resource = target.resource
    limit = int(query.get("limit") or 0)
    matches = compile_selectors(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    asked = version_of(query)
    version, start = store.version, None
    if token := query.get("continue"):
        if asked:
            raise bad_request("specifying resource version is not allowed when using continue")
        version, start = _parse_token(token)
    elif query.get("resourceVersionMatch") == "Exact":
        version = asked
    elif asked > version:
        raise too_large(asked, version)
    try:
        # A negative version says "whatever is there now": the token that comes with a 410.
        items = store.items(resource) if version < 0 else store.at(resource, version)
    except ApiError as error:
        if start is None:
            raise ApiError(410, "The resourceVersion for the provided list is too old.") from error
        raise ApiError(410, _TOO_OLD, metadata={"continue": _token(-1, start)}) from error
    if version < 0:
        version = store.version
    selected = [
        (key, obj)
        for key, obj in items
        if target.namespace in ("", key[0]) and (start is None or key > start) and (matches is None or matches(obj))
    ]
    meta: Obj = {"resourceVersion": str(version)}
    if limit and len(selected) > limit:
        meta["continue"] = _token(version, selected[limit - 1][0])
        if matches is None:  # a real server counts only what it need not decode
            meta["remainingItemCount"] = len(selected) - limit
        selected = selected[:limit]
    kind = f"{resource.kind}List"
    return {"kind": kind, "apiVersion": resource.api_version, "metadata": meta, "items": [obj for _, obj in selected]}
