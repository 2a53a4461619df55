"""A Pod's status from what its containers do, as the kubelet words it. Pure, but for the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from devcluster.clock import stamp
from devcluster.errors import Obj

Role = Literal["init", "sidecar", "main"]

WAITING: Obj = {"waiting": {"reason": "ContainerCreating"}}
INITIALIZING: Obj = {"waiting": {"reason": "PodInitializing"}}


@dataclass
class Container:
    """One container of a running Pod: what it should be, and how it is."""

    spec: Obj
    role: Role
    state: Obj
    last_state: Obj = field(default_factory=dict)
    restarts: int = 0
    id: str = ""
    last_words: Callable[[int], str] = lambda exit_code: ""
    """The termination message of what runs in it, once it has ended."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def is_running(self) -> bool:
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    @property
    def is_ready(self) -> bool:
        return self.exit_code == 0 if self.role == "init" else self.is_running

    @property
    def is_initialized(self) -> bool:
        """Whether it no longer holds up what comes after it."""
        if self.role == "sidecar":
            return self.is_running or "terminated" in self.state
        return self.exit_code == 0

    def terminated(self, exit_code: int, started: str) -> Obj:
        """The state of what has just ended."""
        ended: Obj = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error"}
        if words := self.last_words(exit_code):
            ended["message"] = words
        return {"terminated": ended | {"startedAt": started, "finishedAt": stamp(), "containerID": self.id}}

    def status(self) -> Obj:
        image = self.spec["image"]
        status: Obj = {
            "name": self.name,
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.is_ready,
            "restartCount": self.restarts,
            "image": _full_name(image) if self.id else image,
            "imageID": "sha256:" + "0" * 64 if self.id else "",
        }
        if self.id:
            status["containerID"] = self.id
        status["started"] = self.is_running
        if self.id:
            status["resources"] = self.spec.get("resources") or {}
        return status


def _full_name(image: str) -> str:
    name = image if ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"
    if "/" not in name:
        return f"docker.io/library/{name}"
    first = name.split("/", 1)[0]
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


UNKNOWN: Obj = {
    "terminated": {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "startedAt": None,
        "finishedAt": None,
    }
}
"""What the kubelet says of a container that never started when its Pod is taken down."""


@dataclass
class Condition:
    type: str
    is_true: bool
    reason: str = ""
    message: str = ""


def _conditions(containers: list[Container], sandbox: bool, ended: str) -> list[Condition]:
    """`ended` is PodCompleted or PodFailed once no container will run any more."""
    waiting = [c.name for c in containers if c.role != "main" and not c.is_initialized]
    unready = [c.name for c in containers if c.role == "main" and not c.is_ready]
    unready = [c.name for c in containers if c.role == "sidecar" and not c.is_ready] + unready
    if waiting:
        listed = f"containers with incomplete status: [{' '.join(waiting)}]"
        initialized = Condition("Initialized", False, "ContainersNotInitialized", listed)
    else:
        initialized = Condition("Initialized", True, "PodCompleted" if ended == "PodCompleted" else "")
    if ended:
        ready = ("Ready", False, ended, "")
    elif unready:
        ready = ("Ready", False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    else:
        ready = ("Ready", True, "", "")
    return [
        Condition("PodReadyToStartContainers", sandbox),
        initialized,
        Condition(*ready),
        Condition("ContainersReady", *ready[1:]),
        Condition("PodScheduled", True),
    ]


def _as_json(condition: Condition, old: Obj, generation: int) -> Obj:
    value = "True" if condition.is_true else "False"
    before = next((c for c in old.get("conditions") or [] if c["type"] == condition.type), None)
    same = before is not None and before["status"] == value
    shown: Obj = {"type": condition.type, "observedGeneration": generation, "status": value, "lastProbeTime": None}
    shown["lastTransitionTime"] = before["lastTransitionTime"] if same and before else stamp()
    if condition.reason:
        shown["reason"] = condition.reason
    if condition.message:
        shown["message"] = condition.message
    return shown


def status_of(pod: Obj, containers: list[Container], *, phase: str, sandbox: bool, ended: str, ip: str) -> Obj:
    """The whole status, keeping of the old one what does not change."""
    old = pod["status"]
    generation = pod["metadata"].get("generation", 1)
    status: Obj = {"observedGeneration": generation, "phase": phase}
    status["conditions"] = [_as_json(c, old, generation) for c in _conditions(containers, sandbox, ended)]
    own = {c["type"] for c in status["conditions"]}
    status["conditions"] += [c for c in old.get("conditions") or [] if c["type"] not in own]  # DisruptionTarget, say
    status |= {"hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}]}
    if any(c.id for c in containers):
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    status["startTime"] = old.get("startTime") or stamp()
    inits = [c.status() for c in containers if c.role != "main"]
    if inits:
        status["initContainerStatuses"] = inits
    status["containerStatuses"] = [c.status() for c in containers if c.role == "main"]
    status["qosClass"] = old.get("qosClass", "BestEffort")
    return status


def phase_of(containers: list[Container]) -> str:
    """While the Pod lives. Its end is a decision of the kubelet, taken when everything is torn down."""
    main = [c for c in containers if c.role == "main"]
    started = [c for c in main if c.is_running or c.last_state or "terminated" in c.state]
    return "Running" if len(started) == len(main) else "Pending"
