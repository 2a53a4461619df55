"""What may be done with a kind of resource. Which process needs which is in jobcast/service/processes.py. Pure."""

from typing import Any, NamedTuple

from jobcast.kube.decode import Resource


class Permission(NamedTuple):
    verb: str
    resource: Resource[Any]
    subresource: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource.name}" + (f"/{self.subresource}" if self.subresource else "")
