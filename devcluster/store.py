"""The memory of the API server: objects, one counter of versions, and the history that watches are served from.

Objects are never changed in place: a write replaces the dict, so histories, snapshots and answers may share them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from devcluster.errors import Obj, too_old
from devcluster.scheme import RESOURCES, Resource

Key = tuple[str, str]
"""(namespace, name); the namespace is empty for what lies outside of namespaces."""

HISTORY = 20_000
"""Events remembered per resource. Enough for any test, small enough for a demo left running for a week."""

_META_ORDER = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
)

encoder = msgspec.json.Encoder()


def clone(obj: Obj) -> Obj:
    """A copy to change. Through JSON: quicker than deepcopy, and nothing else than JSON can get in."""
    copied: Obj = msgspec.json.decode(encoder.encode(obj))
    return copied


def key_of(obj: Obj) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class Event:
    """One write. `old` is None for a creation; for a deletion `new` is the last state with the deletion's version."""

    __slots__ = ("_lines", "new", "old", "resource", "type", "version")

    def __init__(self, type_: str, resource: Resource, version: int, old: Obj | None, new: Obj) -> None:
        self.type = type_
        self.resource = resource
        self.version = version
        self.old = old
        self.new = new
        self._lines: dict[str, bytes] = {}

    def line(self, type_: str) -> bytes:
        """The event as a watch sends it; encoded once however many watchers there are."""
        line = self._lines.get(type_)
        if line is None:
            obj = self.new
            if type_ == "DELETED" and self.type != "DELETED" and self.old is not None:
                # It only left the selection: watchers get what they knew, at the version at which it left.
                obj = {**self.old, "metadata": {**self.old["metadata"], "resourceVersion": str(self.version)}}
            line = self._lines[type_] = watch_line(type_, self.resource, obj)
        return line


def watch_line(type_: str, resource: Resource, obj: Obj) -> bytes:
    typed = {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
    return encoder.encode({"type": type_, "object": typed}) + b"\n"


class Store:
    def __init__(self) -> None:
        self.version = 0
        self._objects: dict[Resource, dict[Key, Obj]] = {resource: {} for resource in RESOURCES}
        self._history: dict[Resource, list[Event]] = {resource: [] for resource in RESOURCES}
        self._forgotten: dict[Resource, int] = dict.fromkeys(RESOURCES, 0)
        self._owned: dict[str, dict[tuple[Resource, Key], None]] = {}
        self._listeners: list[Callable[[Event], None]] = []

    def get(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        return self._objects[resource].get((namespace, name))

    def items(self, resource: Resource) -> list[tuple[Key, Obj]]:
        """Everything, in the order of etcd's keys."""
        return sorted(self._objects[resource].items(), key=lambda item: item[0])

    def contents(self, namespace: str) -> Iterator[tuple[Resource, Obj]]:
        for resource, objects in self._objects.items():
            for key, obj in list(objects.items()):
                if resource.namespaced and key[0] == namespace:
                    yield resource, obj

    def owned(self, uid: str) -> list[tuple[Resource, Obj]]:
        """What names this uid among its ownerReferences, oldest first."""
        return [(resource, self._objects[resource][key]) for resource, key in self._owned.get(uid, ())]

    def put(self, resource: Resource, obj: Obj) -> Obj:
        """Create or replace; the object gets the next version and is ours from now on."""
        key = key_of(obj)
        old = self._objects[resource].get(key)
        self.version += 1
        meta = {**obj["metadata"], "resourceVersion": str(self.version)}
        obj["metadata"] = {name: meta.pop(name) for name in _META_ORDER if name in meta} | meta
        self._objects[resource][key] = obj
        self._index(resource, key, old, obj)
        self._tell(Event("MODIFIED" if old else "ADDED", resource, self.version, old, obj))
        return obj

    def remove(self, resource: Resource, key: Key) -> Obj:
        old = self._objects[resource].pop(key)
        self.version += 1
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._index(resource, key, old, None)
        self._tell(Event("DELETED", resource, self.version, old, last))
        return last

    def _index(self, resource: Resource, key: Key, old: Obj | None, new: Obj | None) -> None:
        before = _owners(old)
        after = _owners(new)
        for uid in before - after:
            self._owned[uid].pop((resource, key), None)
            if not self._owned[uid]:
                del self._owned[uid]
        for uid in after - before:
            self._owned.setdefault(uid, {})[resource, key] = None

    def _tell(self, event: Event) -> None:
        history = self._history[event.resource]
        history.append(event)
        if len(history) > HISTORY * 1.1:
            self._forget(event.resource, len(history) - HISTORY)
        for listener in list(self._listeners):
            listener(event)

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` at every write, in order; returns the way to stop it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def since(self, resource: Resource, version: int) -> list[Event]:
        """What happened after `version`; raises 410 when that is forgotten."""
        if version < self._forgotten[resource]:
            raise too_old(version, self._forgotten[resource])
        history = self._history[resource]
        return history[bisect_right(history, version, key=lambda event: event.version) :]

    def at(self, resource: Resource, version: int) -> list[tuple[Key, Obj]]:
        """The collection as it was at `version`: today's, with everything since undone. Raises 410 as `since` does."""
        objects = dict(self._objects[resource])
        for event in reversed(self.since(resource, version)):
            if event.old is None:
                objects.pop(key_of(event.new), None)
            else:
                objects[key_of(event.old)] = event.old
        return sorted(objects.items(), key=lambda item: item[0])

    def compact(self) -> None:
        """Forget all history: every version before now is too old."""
        for resource, history in self._history.items():
            self._forget(resource, len(history))
            self._forgotten[resource] = self.version

    def _forget(self, resource: Resource, count: int) -> None:
        history = self._history[resource]
        if count:
            self._forgotten[resource] = history[count - 1].version
            del history[:count]


def _owners(obj: Obj | None) -> set[str]:
    references: list[dict[str, Any]] = (obj or {}).get("metadata", {}).get("ownerReferences") or []
    return {reference["uid"] for reference in references}
