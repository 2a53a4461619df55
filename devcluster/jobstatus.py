"""Job conditions: reading them, setting them, and the rules by which the server accepts a status. Pure."""

from __future__ import annotations

from devcluster.clock import stamp
from devcluster.errors import Obj, invalid
from devcluster.scheme import JOBS

BUILT_IN = "kubernetes.io/job-controller"


def condition(status: Obj, type_: str) -> Obj | None:
    return next((c for c in status.get("conditions") or [] if c["type"] == type_), None)


def is_true(status: Obj, type_: str) -> bool:
    found = condition(status, type_)
    return found is not None and found["status"] == "True"


def is_finished(job: Obj) -> bool:
    return is_true(job["status"], "Complete") or is_true(job["status"], "Failed")


def is_ours(job: Obj) -> bool:
    """Whether the built-in controller runs it; `managedBy` hands it to somebody else."""
    return bool(job["spec"].get("managedBy", BUILT_IN) == BUILT_IN)


def set_condition(status: Obj, type_: str, value: str, reason: str, message: str) -> bool:
    """True when that changed something. A condition that would be added as False is not added at all."""
    now = stamp()
    old = condition(status, type_)
    new = {"type": type_, "status": value, "lastProbeTime": now, "lastTransitionTime": now}
    new |= {"reason": reason, "message": message}
    if old is None:
        if value != "True":
            return False
        status["conditions"] = [*(status.get("conditions") or []), new]
        return True
    if (old["status"], old["reason"], old["message"]) == (value, reason, message):
        return False
    if old["status"] == value:
        new["lastTransitionTime"] = old["lastTransitionTime"]
    status["conditions"] = [new if c is old else c for c in status["conditions"]]
    return True


def check_status(job: Obj, status: Obj) -> None:
    """Refuse what a real server refuses of a Job's new status."""
    causes: list[tuple[str, str, str]] = []
    if causes:
        raise invalid(JOBS, job["metadata"]["name"], causes)
