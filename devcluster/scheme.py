"""The kinds that are served, and what a request path means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """One row of API discovery."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """Selectable fields beside metadata.name and metadata.namespace."""
    has_status: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As error messages name it: `jobs.batch`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def prefix(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


NAMESPACES = Resource("", "v1", "namespaces", "namespace", "Namespace", False, ("ns",), fields=("status.phase",))
NODES = Resource("", "v1", "nodes", "node", "Node", False, ("no",))
PODS = Resource(
    "",
    "v1",
    "pods",
    "pod",
    "Pod",
    True,
    ("po",),
    ("all",),
    ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"),
)
EVENTS = Resource(
    "",
    "v1",
    "events",
    "event",
    "Event",
    True,
    ("ev",),
    fields=(
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "type",
        "reportingComponent",
        "source",
    ),
    has_status=False,
)
JOBS = Resource("batch", "v1", "jobs", "job", "Job", True, categories=("all",), fields=("status.successful",))

RESOURCES = (NAMESPACES, NODES, PODS, EVENTS, JOBS)
_BY_PATH = {(r.group, r.version, r.plural): r for r in RESOURCES}


@dataclass(frozen=True)
class Target:
    """What a path points at. `name` and `subresource` are empty for collections."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


def resolve(path: str) -> Target | None:
    """The object or collection behind a path, or None when it is none of ours."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    # `/namespaces/x/pods` lies in a namespace; `/namespaces/x` and `/namespaces/x/status` are the Namespace itself.
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = _BY_PATH.get((group, version, rest[0]))
    if resource is None or len(rest) > 3 or (namespace and not resource.namespaced):
        return None
    if resource.namespaced and not namespace and len(rest) > 1:
        return None
    name, subresource = [*rest[1:], "", ""][:2]
    return Target(resource, namespace, name, subresource)
