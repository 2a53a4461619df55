"""Every permission that controller and worker need for their requests; k8s/base/rbac.yaml grants these and no others. Pure."""

from typing import Any, NamedTuple

from jobcast.kube.decode import JOBS, PODS, Resource


class Permission(NamedTuple):
    verb: str
    resource: Resource[Any]
    subresource: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource.name}" + (f"/{self.subresource}" if self.subresource else "")


_LOGS = Permission("get", PODS, "log")
_HOLD = Permission("patch", JOBS)
_OF = {
    "controller": (
        *(Permission(verb, JOBS) for verb in ("get", "list", "watch")),
        *(Permission(verb, PODS) for verb in ("list", "watch")),
        _LOGS,
    ),
    # The sweep lists where the controller watches.
    "worker": (Permission("get", JOBS), Permission("list", JOBS), Permission("list", PODS), _LOGS),
}


def needed(kind: str, *, finalizer: bool) -> tuple[Permission, ...]:
    """Of the controller or the worker; one more with the finalizer."""
    return (*_OF[kind], _HOLD) if finalizer else _OF[kind]
