"""The garbage collector: dependents follow their owners, contents follow their Namespace."""

from __future__ import annotations

import asyncio

from devcluster.errors import ApiError, Obj
from devcluster.registry import FOREGROUND, ORPHAN, Registry
from devcluster.scheme import NAMESPACES, PODS, RESOURCES, Resource
from devcluster.store import Event, key_of

NAMESPACE_SECONDS = 0.05
"""Between looks at a namespace that is going. A real one waits for seconds: its Jobs see their Pods go, and may fail of it."""


class GarbageCollector:
    """Acts a moment after each write, as the real one does: never inside the write that caused it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store
        self._unsubscribe = self._store.subscribe(self._notice)
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        self._unsubscribe()

    def _notice(self, event: Event) -> None:
        meta = event.new["metadata"]
        if event.type == "DELETED":
            self._soon(event.resource, event.new)
            for reference in meta.get("ownerReferences") or []:
                self._soon_uid(reference, meta.get("namespace", ""))
            if event.resource.namespaced:
                self._soon_namespace(meta["namespace"])
        elif meta.get("deletionTimestamp"):
            self._soon(event.resource, event.new)

    def _soon(self, resource: Resource, obj: Obj) -> None:
        # After the Job controller, which lets go of a deleted Job's Pods before they are deleted in turn.
        seconds = NAMESPACE_SECONDS if resource is NAMESPACES else 0.002
        asyncio.get_running_loop().call_later(seconds, self._collect, resource, obj)

    def _soon_uid(self, reference: Obj, namespace: str) -> None:
        for resource in RESOURCES:
            if (resource.api_version, resource.kind) == (reference["apiVersion"], reference["kind"]):
                owner = self._store.get(resource, namespace if resource.namespaced else "", reference["name"])
                if owner and owner["metadata"]["uid"] == reference["uid"]:
                    self._soon(resource, owner)

    def _soon_namespace(self, name: str) -> None:
        home = self._store.get(NAMESPACES, "", name)
        if home and home["metadata"].get("deletionTimestamp"):
            self._soon(NAMESPACES, home)

    def _collect(self, resource: Resource, seen: Obj) -> None:
        if self._stopped:
            return
        current = self._store.get(resource, *key_of(seen))
        uid = seen["metadata"]["uid"]
        if current is None or current["metadata"]["uid"] != uid:
            self._delete_dependents(uid)
            return
        meta = current["metadata"]
        if not meta.get("deletionTimestamp"):
            return
        if resource is NAMESPACES:
            self._empty(current)
        elif ORPHAN in (meta.get("finalizers") or []):
            self._orphan(uid)
            self._drop_finalizer(resource, current, ORPHAN)
        elif FOREGROUND in (meta.get("finalizers") or []):
            self._delete_dependents(uid)
            blocking = [dependent for _, dependent in self._store.owned(uid) if _blocks(dependent, uid)]
            if not blocking:
                self._drop_finalizer(resource, current, FOREGROUND)

    def _delete_dependents(self, uid: str) -> None:
        for resource, dependent in self._store.owned(uid):
            if not dependent["metadata"].get("deletionTimestamp"):
                self._delete(resource, dependent)

    def _delete(self, resource: Resource, obj: Obj) -> None:
        options = {"propagationPolicy": "Background", "preconditions": {"uid": obj["metadata"]["uid"]}}
        try:
            self._registry.delete(resource, *key_of(obj), options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def _orphan(self, uid: str) -> None:
        def let_go(dependent: Obj) -> None:
            references = dependent["metadata"].get("ownerReferences") or []
            dependent["metadata"]["ownerReferences"] = [ref for ref in references if ref["uid"] != uid]

        for resource, dependent in self._store.owned(uid):
            self._registry.change(resource, dependent, let_go)

    def _drop_finalizer(self, resource: Resource, obj: Obj, finalizer: str) -> None:
        def drop(copy: Obj) -> None:
            copy["metadata"]["finalizers"] = [f for f in copy["metadata"]["finalizers"] if f != finalizer]

        self._registry.change(resource, obj, drop)

    def _empty(self, namespace: Obj) -> None:
        """Pods go first, as since Kubernetes 1.33, and all else when the last of them is gone."""
        left = 0
        contents = list(self._store.contents(namespace["metadata"]["name"]))
        pods = [(resource, obj) for resource, obj in contents if resource is PODS]
        for resource, obj in pods or contents:
            if not obj["metadata"].get("deletionTimestamp"):
                self._delete(resource, obj)
            left += self._store.get(resource, *key_of(obj)) is not None
        if left == 0 and namespace["spec"].get("finalizers"):
            self._finish_namespace(namespace)

    def _finish_namespace(self, namespace: Obj) -> None:
        def release(copy: Obj) -> None:
            copy["spec"]["finalizers"] = []

        self._registry.change(NAMESPACES, namespace, release)


def _blocks(dependent: Obj, uid: str) -> bool:
    references = dependent["metadata"].get("ownerReferences") or []
    return any(ref["uid"] == uid and ref.get("blockOwnerDeletion") for ref in references)
