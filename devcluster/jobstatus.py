"""Job conditions: reading them, setting them, and the rules by which the server accepts a status. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from devcluster.clock import parse, stamp
from devcluster.errors import Obj, invalid
from devcluster.scheme import JOBS

Cause = tuple[str, str, str]

REQUIRED = "FieldValueRequired"
INVALID = "FieldValueInvalid"
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


_ORDER = (
    "conditions",
    "startTime",
    "completionTime",
    "active",
    "succeeded",
    "failed",
    "terminating",
    "completedIndexes",
    "failedIndexes",
    "uncountedTerminatedPods",
    "ready",
)


def ordered_status(status: Obj) -> Obj:
    """As Go writes it: fields in their order, three counters left out when zero."""
    ordered = {name: status[name] for name in _ORDER if status.get(name) is not None}
    for counter in ("active", "succeeded", "failed"):
        if not ordered.get(counter):
            ordered.pop(counter, None)
    if "conditions" in ordered:
        ordered["conditions"] = [{"type": "", "status": "", "lastProbeTime": None, **c} for c in ordered["conditions"]]
    return ordered


def check_status(job: Obj, new: Obj) -> None:
    """Refuse what a real server refuses of a Job's new status."""
    causes = [*_contradictions(new), *_forbidden_changes(job, new)]
    if causes:
        raise invalid(JOBS, job["metadata"]["name"], causes)


def _contradictions(status: Obj) -> Iterator[Cause]:
    complete, failed = is_true(status, "Complete"), is_true(status, "Failed")
    started, ended = status.get("startTime"), status.get("completionTime")
    if complete and not ended:
        yield REQUIRED, "status.completionTime", "Required value: completionTime is required for Complete jobs"
    if ended and not complete:
        why = "cannot set completionTime when there is no Complete=True condition"
        yield INVALID, "status.completionTime", f'Invalid value: "{ended}": {why}'
    if (complete or failed) and not started:
        yield REQUIRED, "status.startTime", "Required value: startTime is required for finished job"
    if started and ended and parse(ended) < parse(started):
        why = "must be equal to or after `startTime`"
        yield INVALID, "status.completionTime", f'Invalid value: "{ended}": {why}'
    pairs = [("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")]
    for type_, herald in pairs:
        if is_true(status, type_) and not is_true(status, herald):
            why = f"cannot set {type_}=True condition without the {herald}=true condition"
            yield INVALID, "status.conditions", f"Invalid value: {why}"
    for one, other in (("Complete", "Failed"), ("SuccessCriteriaMet", "FailureTarget")):
        if is_true(status, one) and is_true(status, other):
            why = f"cannot set {one}=True and {other}=true conditions"
            yield INVALID, "status.conditions", f"Invalid value: {why}"
    active, ready = status.get("active", 0), status.get("ready") or 0
    if (complete or failed) and active > 0:
        yield INVALID, "status.active", f"Invalid value: {active}: active>0 is invalid for finished job"
    if ready > active:
        yield INVALID, "status.ready", f"Invalid value: {ready}: cannot set more ready pods than active"


def _forbidden_changes(job: Obj, new: Obj) -> Iterator[Cause]:
    old = job["status"]
    started, ended = old.get("startTime"), old.get("completionTime")
    if is_true(old, "Complete") and ended and new.get("completionTime") not in (None, ended):
        yield INVALID, "status.completionTime", f'Invalid value: "{new["completionTime"]}": field is immutable'
    for type_ in ("Failed", "Complete"):
        if is_true(old, type_) and not is_true(new, type_):
            yield INVALID, "status.conditions", f"Invalid value: cannot disable the terminal {type_}=True condition"
    if started and new.get("startTime") != started and not job["spec"].get("suspend") and not _resumes(old, new):
        why = "startTime cannot be removed for unsuspended job"
        yield REQUIRED, "status.startTime", f"Required value: {why}"
    for type_ in ("FailureTarget", "SuccessCriteriaMet"):
        if is_true(old, type_) and not is_true(new, type_):
            yield INVALID, "status.conditions", f"Invalid value: cannot disable the {type_}=True condition"


def _resumes(old: Obj, new: Obj) -> bool:
    return is_true(old, "Suspended") and not is_true(new, "Suspended")
