"""Events: what controllers say about objects, for people."""

from __future__ import annotations

from devcluster.clock import stamp
from devcluster.errors import ApiError, Obj
from devcluster.registry import Registry
from devcluster.scheme import EVENTS, Resource
from devcluster.store import Key, key_of

_SOURCES: dict[str, Obj] = {
    "kubelet": {"component": "kubelet", "host": "devcluster"},
    "job-controller": {"component": "job-controller"},
    "default-scheduler": {},
}
KEPT = 2_000
"""Events in the store; older ones go, as on a real server after an hour."""


class Recorder:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._count = 0
        self._same: dict[tuple[str, str, str], Key] = {}
        """Where an event about that uid, for that reason, in those words is; oldest first."""

    def record(self, resource: Resource, about: Obj, type_: str, reason: str, message: str, by: str) -> None:
        """Repeated ones are counted, not repeated. What cannot be recorded is lost, as on a real cluster."""
        namespace, name = key_of(about)
        uid = about["metadata"]["uid"]
        known = self._same.get((uid, reason, message))
        old = self._registry.store.get(EVENTS, *known) if known else None
        try:
            if old is not None:
                again = {**old, "metadata": dict(old["metadata"]), "count": old["count"] + 1, "lastTimestamp": stamp()}
                self._registry.update(EVENTS, *key_of(old), again, forced=True)
                return
            self._count += 1
            created = self._registry.create(
                EVENTS, namespace, self._new(resource, about, type_, reason, message, by, f"{name}.{self._count:016x}")
            )
        except ApiError:
            return
        self._same.pop((uid, reason, message), None)
        self._same[uid, reason, message] = key_of(created)
        if len(self._same) > KEPT:
            oldest = self._same.pop(next(iter(self._same)))
            if self._registry.store.get(EVENTS, *oldest):
                self._registry.store.remove(EVENTS, oldest)

    def _new(self, resource: Resource, about: Obj, type_: str, reason: str, message: str, by: str, name: str) -> Obj:
        now = stamp()
        meta = about["metadata"]
        return {
            "metadata": {"name": name},
            "involvedObject": {
                "kind": resource.kind,
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
                "apiVersion": resource.api_version,
                "resourceVersion": meta["resourceVersion"],
            },
            "reason": reason,
            "message": message,
            "source": _SOURCES[by],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": type_,
            "eventTime": None,
            "reportingComponent": by,
            "reportingInstance": "",
        }
