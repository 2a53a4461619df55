"""Writes: create, update, patch and delete, with the rules that make them safe on a real server.

Everything here is synchronous: a write happens between two awaits, so no reader sees half of one.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

from devcluster import admission
from devcluster.clock import parse, stamp
from devcluster.errors import (
    ApiError,
    Obj,
    already_exists,
    bad_request,
    conflict,
    invalid,
    modified,
    not_found,
    precondition,
)
from devcluster.jobstatus import check_status, ordered_status
from devcluster.patch import apply_patch
from devcluster.scheme import EVENTS, JOBS, NAMESPACES, PODS, Resource
from devcluster.store import Store, clone, key_of

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
TERMINAL_PHASES = ("Succeeded", "Failed")

# Kubernetes leaves out vowels and look-alikes, so that no name ever spells a word.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


_OPTIONS = Resource("meta.k8s.io", "v1", "", "", "DeleteOptions", False)


def suffix() -> str:
    return "".join(random.choices(_ALPHABET, k=5))


class Registry:
    """The write side of the API server; the controllers in this process use it just as HTTP clients do."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        obj = self.store.get(resource, namespace, name)
        if obj is None:
            raise not_found(resource, name)
        return obj

    def create(self, resource: Resource, namespace: str, obj: Obj) -> Obj:
        meta = self._named(resource, namespace, obj)
        if resource.namespaced:
            home = self.get(NAMESPACES, "", namespace)
            if home["status"]["phase"] == "Terminating":
                raise _terminating(resource, meta["name"], namespace)
        if self.store.get(resource, namespace, meta["name"]):
            raise already_exists(resource, meta["name"])
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = stamp()
        for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
            meta.pop(field, None)
        for field in ("labels", "annotations", "finalizers", "ownerReferences"):
            if not meta.get(field):
                meta.pop(field, None)
        if resource in (JOBS, PODS):
            meta["generation"] = 1
        admission.prepare(resource, obj)
        return self.store.put(resource, obj)

    def _named(self, resource: Resource, namespace: str, obj: Obj) -> dict[str, Any]:
        obj.pop("kind", None)
        obj.pop("apiVersion", None)
        meta: dict[str, Any] = obj.setdefault("metadata", {})
        if resource.namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            meta.pop("namespace", None)
        if not meta.get("name"):
            if not meta.get("generateName"):
                cause = ("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")
                raise invalid(resource, "", [cause])
            meta["name"] = meta["generateName"] + suffix()
        return meta

    def update(
        self, resource: Resource, namespace: str, name: str, new: Obj, subresource: str = "", *, forced: bool = False
    ) -> Obj:
        """Replace. A resourceVersion in `new` must be the current one; `forced` is for our own read-modify-writes."""
        old = self.get(resource, namespace, name)
        meta = new.setdefault("metadata", {})
        if meta.get("name", name) != name:
            message = f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            raise bad_request(message)
        if meta.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            why = (
                f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old['metadata']['uid']}"
            )
            raise conflict(resource, name, why)
        if not forced and meta.get("resourceVersion") not in (None, "", old["metadata"]["resourceVersion"]):
            raise modified(resource, name)
        if subresource == "status":
            if resource is JOBS:
                check_status(old, new.get("status") or {})
            # Labels and finalizers do come through here, the spec does not; surprising, but so is a real server.
            merged = self._merged(resource, old, {**old, "metadata": meta or old["metadata"]})
            merged["status"] = (ordered_status if resource is JOBS else dict)(new.get("status") or {})
        else:
            merged = self._merged(resource, old, new)
        if _same(old, merged):
            return old  # a write that changes nothing is no event: etcd keeps its version
        return self._finish(resource, merged)

    def _merged(self, resource: Resource, old: Obj, new: Obj) -> Obj:
        before, meta = old["metadata"], dict(new["metadata"])
        new = {key: value for key, value in new.items() if key not in ("kind", "apiVersion")}
        for field in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.pop(field, None)
            if field in before:
                meta[field] = before[field]
        meta.update({key: before[key] for key in ("name", "namespace") if key in before})
        for field in ("labels", "annotations", "finalizers", "ownerReferences"):
            if not meta.get(field):
                meta.pop(field, None)
        if resource is not EVENTS:
            new["status"] = old.get("status", {})
            admission.check_update(resource, old, new)
            if new.get("spec") != old.get("spec") and "generation" in before:
                meta["generation"] = before["generation"] + 1
        if resource is not EVENTS:
            admission.check_finalizers(resource, before, meta)
            admission.check_metadata(resource, meta)
        merged = {**new, "metadata": meta}
        if resource is JOBS:
            admission.inherit_labels(merged)
        return merged

    def _finish(self, resource: Resource, obj: Obj) -> Obj:
        """Store, or let go when this was the last finalizer of something that is being deleted."""
        meta = obj["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and not self._holds(resource, obj):
            self.store.remove(resource, key_of(obj))  # watchers see it as it was, the writer as it would have been
            return obj
        return self.store.put(resource, obj)

    def _holds(self, resource: Resource, obj: Obj) -> bool:
        """Pods wait for their kubelet, Namespaces for their contents."""
        if resource is PODS:
            return bool(obj["metadata"].get("deletionGracePeriodSeconds"))
        return resource is NAMESPACES and bool(obj["spec"].get("finalizers"))

    def patch(
        self, resource: Resource, namespace: str, name: str, content_type: str, change: Any, subresource: str = ""
    ) -> Obj:
        old = self.store.get(resource, namespace, name)
        if old is None and content_type == "application/apply-patch+yaml":
            change.setdefault("metadata", {})["name"] = name
            return self.create(resource, namespace, change)
        current = self.get(resource, namespace, name)
        new = clone(apply_patch(content_type, current, change))
        if new.get("metadata", {}).get("uid") != current["metadata"]["uid"]:
            message = f'Invalid value: "{new["metadata"].get("uid", "")}": field is immutable'
            raise invalid(resource, name, [("FieldValueInvalid", "metadata.uid", message)])
        return self.update(resource, namespace, name, new, subresource)

    def change(self, resource: Resource, obj: Obj, edit: Callable[[Obj], None], subresource: str = "") -> Obj | None:
        """Our controllers' read-modify-write; None when the object is gone or another by that name."""
        current = self.store.get(resource, *key_of(obj))
        if current is None or current["metadata"]["uid"] != obj["metadata"]["uid"]:
            return None
        copy = clone(current)
        edit(copy)
        return self.update(resource, *key_of(obj), copy, subresource, forced=True)

    def bind(self, pod: Obj, edit: Callable[[Obj], None]) -> None:
        """The scheduler's own write: node and condition at once, and no new generation."""
        current = self.store.get(PODS, *key_of(pod))
        if current is not None and current["metadata"]["uid"] == pod["metadata"]["uid"]:
            copy = clone(current)
            edit(copy)
            self.store.put(PODS, copy)

    def evict(self, namespace: str, name: str) -> None:
        """Deleted like any other, and marked as what it is."""
        pod = self.get(PODS, namespace, name)
        self.change(
            PODS, pod, lambda copy: disrupt(copy, "EvictionByEvictionAPI", "Eviction API: evicting", stamp()), "status"
        )
        self.delete(PODS, namespace, name)

    def delete(self, resource: Resource, namespace: str, name: str, options: Obj | None = None) -> tuple[Obj, bool]:
        """The object as it now is, and whether it is gone at once."""
        obj = self.get(resource, namespace, name)
        options = options or {}
        wanted = options.get("preconditions") or {}
        for field, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            has = obj["metadata"][field]
            if wanted.get(field) not in (None, has):
                raise precondition(resource, name, word, wanted[field], has)
        grace = self._grace(resource, obj, options.get("gracePeriodSeconds"))
        finalizers = self._finalizers(resource, obj, options)
        copy = clone(obj)
        meta = copy["metadata"]
        if finalizers:
            meta["finalizers"] = finalizers
        else:
            meta.pop("finalizers", None)
        if resource is NAMESPACES:
            copy["status"]["phase"] = "Terminating"
        fresh = not meta.get("deletionTimestamp")
        if fresh or grace < meta.get("deletionGracePeriodSeconds", 0):
            meta["deletionTimestamp"] = stamp(parse(stamp()) + grace)
            meta["deletionGracePeriodSeconds"] = grace
            if fresh and "generation" in meta:
                meta["generation"] += 1
        elif finalizers == (obj["metadata"].get("finalizers") or []):
            return obj, False
        if resource is NAMESPACES:
            meta.pop("deletionGracePeriodSeconds", None)
        if resource is not PODS and not finalizers and not self._holds(resource, copy):
            return self.store.remove(resource, key_of(obj)), True
        held = bool(finalizers) or self._holds(resource, copy)
        stored = self.store.put(resource, copy)
        if not held:  # watchers see a Pod's deletion begin, even when it ends at once
            stored = self.store.remove(resource, key_of(copy))
        return stored, not held

    @staticmethod
    def _grace(resource: Resource, obj: Obj, asked: int | None) -> int:
        if resource is not PODS:
            return 0
        ended = obj["status"].get("phase") in TERMINAL_PHASES
        if not obj["spec"].get("nodeName") or ended:
            return 0
        default: int = obj["spec"].get("terminationGracePeriodSeconds", 30)
        return default if asked is None else max(asked, 0)

    @staticmethod
    def _finalizers(resource: Resource, obj: Obj, options: Obj) -> list[str]:
        finalizers = [name for name in obj["metadata"].get("finalizers") or [] if name not in (FOREGROUND, ORPHAN)]
        policy = options.get("propagationPolicy")
        if policy not in (None, "Background", "Foreground", "Orphan"):
            message = f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"'
            raise invalid(_OPTIONS, "", [("FieldValueNotSupported", "propagationPolicy", message)])
        if policy is None and options.get("orphanDependents") is not None:
            policy = "Orphan" if options["orphanDependents"] else "Background"
        if policy is None:
            already = [n for n in obj["metadata"].get("finalizers") or [] if n in (FOREGROUND, ORPHAN)]
            # Jobs alone orphan their Pods by default: a promise of batch/v1 from before it was v1.
            return finalizers + (already or ([ORPHAN] if resource is JOBS else []))
        return finalizers + {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(policy, [])


def disrupt(pod: Obj, reason: str, message: str, now: str) -> None:
    """Mark a Pod that ends for no fault of its own, in place."""
    told: Obj = {"type": "DisruptionTarget", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    told |= {"reason": reason, "message": message}
    others = [c for c in pod["status"].get("conditions") or [] if c["type"] != told["type"]]
    pod["status"]["conditions"] = [*others, told]


def _same(old: Obj, new: Obj) -> bool:
    def bare(obj: Obj) -> Obj:
        return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}}

    return bare(old) == bare(new)


def _terminating(resource: Resource, name: str, namespace: str) -> ApiError:
    message = (
        f'{resource.qualified} "{name}" is forbidden: unable to create new content in namespace {namespace} because it '
        "is being terminated"
    )
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    group = {"group": resource.group} if resource.group else {}
    return ApiError(403, message, details={"name": name, **group, "kind": resource.plural, "causes": [cause]})
