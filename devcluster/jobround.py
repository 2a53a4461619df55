"""One look at a Job: what its Pods add up to, whether that decides it, and how it is written down. Pure, but for the
clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from devcluster import jobpods as pods_
from devcluster.clock import parse, stamp
from devcluster.errors import Obj
from devcluster.jobindexes import format_indexes, index_of, parse_indexes
from devcluster.jobpolicy import failure_action, matching_success_rule
from devcluster.jobstatus import condition, is_true


@dataclass
class Verdict:
    """How a Job ends: the condition that says so, and the one that announces it."""

    type: str
    reason: str
    message: str

    @property
    def herald(self) -> str:
        return "SuccessCriteriaMet" if self.type == "Complete" else "FailureTarget"


REACHED = Verdict("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
BACKOFF = Verdict("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
DEADLINE = Verdict("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
TOO_MANY_INDEXES = Verdict(
    "Failed", "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
)
FAILED_INDEXES = Verdict("Failed", "FailedIndexes", "Job has failed indexes")


@dataclass
class Round:
    """What one reconcile has seen and decided."""

    job: Obj
    status: Obj
    pods: list[Obj]
    active: list[Obj] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    succeeded_indexes: set[int] = field(default_factory=set)
    failed_indexes: set[int] = field(default_factory=set)
    verdict: Verdict | None = None
    deadline_in: float | None = None
    """Seconds until activeDeadlineSeconds are over."""

    @property
    def indexed(self) -> bool:
        return bool(self.job["spec"]["completionMode"] == "Indexed")

    @property
    def completions(self) -> int | None:
        number: int | None = self.job["spec"].get("completions")
        return number

    @property
    def per_index(self) -> int | None:
        """backoffLimitPerIndex."""
        number: int | None = self.job["spec"].get("backoffLimitPerIndex")
        return number


def count(r: Round) -> None:
    status, job = r.status, r.job
    if not status.get("startTime") and not job["spec"]["suspend"]:
        status["startTime"] = stamp()
    status.setdefault("uncountedTerminatedPods", {})
    uncounted = status["uncountedTerminatedPods"]
    waiting_ok, waiting_bad = set(uncounted.get("succeeded") or []), set(uncounted.get("failed") or [])
    r.active = [pod for pod in r.pods if pods_.is_active(pod)]
    tracked = [pod for pod in r.pods if pods_.is_tracked(pod)]
    new_ok = [p for p in tracked if pods_.phase(p) == "Succeeded" and p["metadata"]["uid"] not in waiting_ok]
    new_bad = [p for p in tracked if _is_new_failure(job, p, waiting_bad)]
    r.failed = status.get("failed", 0) + len(waiting_bad) + len(new_bad)
    if r.indexed:
        r.succeeded_indexes = parse_indexes(status.get("completedIndexes"))
        r.succeeded_indexes |= {i for p in new_ok if (i := index_of(p)) is not None and i < (r.completions or 0)}
        r.succeeded = len(r.succeeded_indexes)
        if r.per_index is not None:
            r.failed_indexes = (
                parse_indexes(status.get("failedIndexes"))
                | {
                    i
                    for p in tracked
                    if pods_.is_failed(job, p)
                    and (i := index_of(p)) is not None
                    and (pods_.failure_count(p) >= r.per_index or failure_action(job, p)[0] == "FailIndex")
                    and not job["spec"]["suspend"]
                }
                - r.succeeded_indexes
            )
    else:
        r.succeeded = status.get("succeeded", 0) + len(waiting_ok) + len(new_ok)


def _is_new_failure(job: Obj, pod: Obj, known: set[str]) -> bool:
    if not pods_.is_failed(job, pod) or pod["metadata"]["uid"] in known:
        return False
    if job["spec"]["suspend"] and pods_.phase(pod) != "Failed":
        return False  # taken down for the pause: no failure of the Job's
    return failure_action(job, pod)[0] != "Ignore" or pods_.phase(pod) != "Failed"


def judge(r: Round) -> None:
    """Is it decided? What was announced stays decided."""
    spec = r.job["spec"]
    for herald, type_ in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
        if is_true(r.status, herald):
            told = condition(r.status, herald)
            assert told
            r.verdict = Verdict(type_, told["reason"], told["message"])
            return
    for pod in r.pods:
        if spec.get("podFailurePolicy") and pods_.is_tracked(pod) and pods_.phase(pod) == "Failed":
            action, message = failure_action(r.job, pod)
            if action == "FailJob":
                r.verdict = Verdict("Failed", "PodFailurePolicy", message)
                return
    if r.failed > spec["backoffLimit"] or _restarted_too_often(r):
        r.verdict = BACKOFF
    elif _past_deadline(r):
        r.verdict = DEADLINE
    elif spec.get("maxFailedIndexes") is not None and len(r.failed_indexes) > spec["maxFailedIndexes"]:
        r.verdict = TOO_MANY_INDEXES
    elif r.indexed and (rule := matching_success_rule(r.job, r.succeeded_indexes)) is not None:
        r.verdict = Verdict("Complete", "SuccessPolicy", f"Matched rules at index {rule}")
    elif r.active:
        return
    elif r.completions is None:
        r.verdict = REACHED if r.succeeded > 0 else None
    elif r.succeeded >= r.completions:
        r.verdict = REACHED
    elif r.failed_indexes and r.succeeded + len(r.failed_indexes) >= r.completions:
        r.verdict = FAILED_INDEXES


def _restarted_too_often(r: Round) -> bool:
    if r.job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    limit, count = r.job["spec"]["backoffLimit"], sum(pods_.restarts(pod) for pod in r.active)
    return count > 0 if limit == 0 else count >= limit


def _past_deadline(r: Round) -> bool:
    seconds = r.job["spec"].get("activeDeadlineSeconds")
    if seconds is None or r.job["spec"]["suspend"] or not r.status.get("startTime"):
        return False
    if (left := parse(r.status["startTime"]) + seconds - time.time()) <= 0:
        return True
    r.deadline_in = left
    return False


def tally(status: Obj, pods: list[Obj]) -> None:
    active = [pod for pod in pods if pods_.is_active(pod)]
    set_number(status, "active", len(active))
    status["terminating"] = sum(pods_.is_terminating(pod) for pod in pods)
    status["ready"] = sum(pods_.is_ready(pod) for pod in active)


def count_up(r: Round) -> list[Obj]:
    """Enter ended Pods as uncounted (indexes are counted at once); the Pods that may now go."""
    uncounted = r.status["uncountedTerminatedPods"]
    good, bad = list(uncounted.get("succeeded") or []), list(uncounted.get("failed") or [])
    failing = r.verdict is not None and r.verdict.type == "Failed"
    winning = r.verdict is not None and not failing
    pausing = r.verdict is None and r.job["spec"]["suspend"]
    released = []
    for pod in r.pods:
        if not pods_.is_tracked(pod):
            continue
        uid = pod["metadata"]["uid"]
        if pods_.phase(pod) == "Succeeded" and uid not in bad:
            if not r.indexed and uid not in good:
                good.append(uid)
            released.append(pod)
        elif pods_.is_terminating(pod) and (winning or pausing):
            released.append(pod)  # taken down because it is not needed: no failure
        elif pods_.is_failed(r.job, pod) or (failing and pods_.is_terminating(pod)):
            if _awaits_successor(r, pod):
                continue
            if uid not in bad and failure_action(r.job, pod)[0] != "Ignore":
                bad.append(uid)
            released.append(pod)
    r.status["uncountedTerminatedPods"] = {
        **({"succeeded": good} if good else {}),
        **({"failed": bad} if bad else {}),
    }
    if r.indexed:
        set_number(r.status, "succeeded", len(r.succeeded_indexes))
        if r.succeeded_indexes:
            r.status["completedIndexes"] = format_indexes(r.succeeded_indexes)
        if r.per_index is not None:
            r.status["failedIndexes"] = format_indexes(r.failed_indexes)
    return released


def _awaits_successor(r: Round, pod: Obj) -> bool:
    """With backoffLimitPerIndex a failed Pod is kept, uncounted, until the next one carries its failure count on."""
    index = index_of(pod)
    if r.per_index is None or r.verdict is not None or index in r.failed_indexes:
        return False
    return all(index_of(other) != index for other in r.active)


def settle(r: Round) -> None:
    """The finalizers are off: move the uncounted into the counters."""
    uncounted = r.status["uncountedTerminatedPods"]
    good, bad = len(uncounted.get("succeeded") or []), len(uncounted.get("failed") or [])
    if good:
        set_number(r.status, "succeeded", r.status.get("succeeded", 0) + good)
    if bad:
        set_number(r.status, "failed", r.status.get("failed", 0) + bad)
    r.status["uncountedTerminatedPods"] = {}


def set_number(status: Obj, name: str, number: int) -> None:
    """Go leaves zeroes out."""
    if number:
        status[name] = number
    else:
        status.pop(name, None)
