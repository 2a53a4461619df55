"""The Job controller: makes Pods for Jobs, counts how they end, and says when a Job is over.

The order of writes is the real controller's, because watchers see each of them: count in `uncountedTerminatedPods`
(with SuccessCriteriaMet or FailureTarget, once that is clear), take the finalizers off the Pods, move the count over,
and say Complete or Failed when no Pod is left running.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from devcluster import jobpods as pods_
from devcluster.clock import parse, stamp
from devcluster.errors import ApiError, Obj
from devcluster.events import Recorder
from devcluster.jobindexes import format_indexes, index_of, parse_indexes
from devcluster.jobpolicy import failure_action, matching_success_rule
from devcluster.jobstatus import condition, is_finished, is_ours, is_true, set_condition
from devcluster.registry import Registry
from devcluster.scheme import JOBS, PODS
from devcluster.store import Event, Key, clone, key_of

MAX_BACKOFF = 60
"""Times the first delay; a real controller goes from 10 s to 10 min."""


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


class JobController:
    """One queue, one Job at a time; each reconcile is synchronous, so nothing changes under it."""

    def __init__(self, registry: Registry, recorder: Recorder, backoff_seconds: float) -> None:
        self._registry = registry
        self._store = registry.store
        self._recorder = recorder
        self._backoff_seconds = backoff_seconds
        self._loop = asyncio.get_running_loop()
        self._queue: dict[Key, None] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._ends: dict[str, float] = {}
        self._draining: asyncio.Handle | None = None
        self._unsubscribe = self._store.subscribe(self._notice)

    def stop(self) -> None:
        self._unsubscribe()
        for timer in self._timers.values():
            timer.cancel()
        if self._draining:
            self._draining.cancel()

    def _notice(self, event: Event) -> None:
        if event.resource is JOBS:
            self._enqueue(key_of(event.new))
        elif event.resource is PODS:
            meta = event.new["metadata"]
            for reference in (
                meta.get("ownerReferences") or (event.old or event.new)["metadata"].get("ownerReferences") or []
            ):
                if reference["kind"] == "Job":
                    self._enqueue((meta["namespace"], reference["name"]))
                    if event.type != "DELETED":
                        self._release_orphan(event.new, reference)

    def _enqueue(self, key: Key) -> None:
        self._queue[key] = None
        if self._draining is None:
            self._draining = self._loop.call_soon(self._drain)

    def _enqueue_after(self, key: Key, seconds: float) -> None:
        if old := self._timers.pop(key, None):
            old.cancel()
        self._timers[key] = self._loop.call_later(max(seconds, 0.01), self._expire, key)

    def _expire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._enqueue(key)

    def _drain(self) -> None:
        self._draining = None
        batch, self._queue = self._queue, {}
        for namespace, name in batch:
            job = self._store.get(JOBS, namespace, name)
            if job is None:
                if timer := self._timers.pop((namespace, name), None):
                    timer.cancel()
            elif is_ours(job):
                self._reconcile(job)

    def _release_orphan(self, pod: Obj, reference: Obj) -> None:
        """A Pod whose Job is gone is held by nobody any more."""
        owner = self._store.get(JOBS, pod["metadata"]["namespace"], reference["name"])
        if pods_.is_tracked(pod) and (owner is None or owner["metadata"]["uid"] != reference["uid"]):
            self._loop.call_soon(self._release, pod)

    # One Job

    def _reconcile(self, job: Obj) -> None:
        pods = [pod for resource, pod in self._store.owned(job["metadata"]["uid"]) if resource is PODS]
        if job["metadata"].get("deletionTimestamp"):
            # From here on nothing is counted: a Job deleted before its end never becomes Complete or Failed, however
            # long a finalizer holds it and however its Pods end.
            for pod in pods:
                self._release(pod)
            if not is_finished(job):
                self._recount(job)
            return
        if is_finished(job):
            for pod in pods:
                self._release(pod)
            self._expire_finished(job)
            return
        round_ = Round(job, clone(job["status"]), pods)
        self._count(round_)
        self._judge(round_)
        self._act(round_)
        self._track(round_)

    def _recount(self, job: Obj) -> None:
        status = clone(job["status"])
        pods = [pod for resource, pod in self._store.owned(job["metadata"]["uid"]) if resource is PODS]
        if status.get("startTime"):
            self._tally(status, pods)
            self._write(Round(job, status, pods))

    @staticmethod
    def _tally(status: Obj, pods: list[Obj]) -> None:
        active = [pod for pod in pods if pods_.is_active(pod)]
        _set_number(status, "active", len(active))
        status["terminating"] = sum(pods_.is_terminating(pod) for pod in pods)
        status["ready"] = sum(pods_.is_ready(pod) for pod in active)

    def _expire_finished(self, job: Obj) -> None:
        """ttlSecondsAfterFinished."""
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None or job["metadata"].get("deletionTimestamp"):
            return
        ended = condition(job["status"], "Complete") or condition(job["status"], "Failed")
        assert ended
        left = parse(ended["lastTransitionTime"]) + ttl - time.time()
        if left > 0:
            self._enqueue_after(key_of(job), left)
        else:
            self._registry.delete(JOBS, *key_of(job), {"propagationPolicy": "Foreground"})

    def _count(self, r: Round) -> None:
        status, job = r.status, r.job
        if not status.get("startTime") and not job["spec"]["suspend"]:
            status["startTime"] = stamp()
        status.setdefault("uncountedTerminatedPods", {})
        uncounted = status["uncountedTerminatedPods"]
        waiting_ok, waiting_bad = set(uncounted.get("succeeded") or []), set(uncounted.get("failed") or [])
        r.active = [pod for pod in r.pods if pods_.is_active(pod)]
        tracked = [pod for pod in r.pods if pods_.is_tracked(pod)]
        new_ok = [p for p in tracked if pods_.phase(p) == "Succeeded" and p["metadata"]["uid"] not in waiting_ok]
        new_bad = [p for p in tracked if self._is_new_failure(job, p, waiting_bad)]
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

    def _is_new_failure(self, job: Obj, pod: Obj, known: set[str]) -> bool:
        if not pods_.is_failed(job, pod) or pod["metadata"]["uid"] in known:
            return False
        if job["spec"]["suspend"] and pods_.phase(pod) != "Failed":
            return False  # taken down for the pause: no failure of the Job's
        return failure_action(job, pod)[0] != "Ignore" or pods_.phase(pod) != "Failed"

    def _judge(self, r: Round) -> None:
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
        if r.failed > spec["backoffLimit"] or self._restarted_too_often(r):
            r.verdict = BACKOFF
        elif self._past_deadline(r):
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

    @staticmethod
    def _restarted_too_often(r: Round) -> bool:
        if r.job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
            return False
        limit, count = r.job["spec"]["backoffLimit"], sum(pods_.restarts(pod) for pod in r.active)
        return count > 0 if limit == 0 else count >= limit

    def _past_deadline(self, r: Round) -> bool:
        seconds = r.job["spec"].get("activeDeadlineSeconds")
        if seconds is None or r.job["spec"]["suspend"] or not r.status.get("startTime"):
            return False
        if (left := parse(r.status["startTime"]) + seconds - time.time()) <= 0:
            return True
        self._enqueue_after(key_of(r.job), left)
        return False

    # What follows from it

    def _act(self, r: Round) -> None:
        going = bool(r.job["metadata"].get("deletionTimestamp"))
        suspended = r.job["spec"]["suspend"]
        if r.verdict is not None or (suspended and not going):
            self._remove(r, list(r.active))
        elif not going:
            self._scale(r)
        if r.verdict is None and not going:
            self._tell_suspension(r, suspended)

    def _tell_suspension(self, r: Round, suspended: bool) -> None:
        if suspended:
            if set_condition(r.status, "Suspended", "True", "JobSuspended", "Job suspended"):
                self._event(r.job, "Normal", "Suspended", "Job suspended")
        elif set_condition(r.status, "Suspended", "False", "JobResumed", "Job resumed"):
            self._event(r.job, "Normal", "Resumed", "Job resumed")
            r.status["startTime"] = stamp()  # the time it was paused does not count against its deadline

    def _remove(self, r: Round, pods: list[Obj]) -> None:
        for pod in pods:
            try:
                self._registry.delete(PODS, *key_of(pod), {"preconditions": {"uid": pod["metadata"]["uid"]}})
            except ApiError as error:
                if error.code != 404:
                    raise
            self._event(r.job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
        r.pods = [pod for resource, pod in self._store.owned(r.job["metadata"]["uid"]) if resource is PODS]
        r.active = [pod for pod in r.pods if pods_.is_active(pod)]

    def _scale(self, r: Round) -> None:
        parallelism: int = r.job["spec"]["parallelism"]
        terminating = sum(pods_.is_terminating(pod) for pod in r.pods) if pods_.replaces_only_failed(r.job) else 0
        if r.completions is None:
            wanted = len(r.active) if r.succeeded > 0 else parallelism
        else:
            wanted = min(r.completions - r.succeeded - len(r.failed_indexes), parallelism)
        if len(r.active) > wanted:
            self._remove(r, r.active[max(wanted, 0) :])
            return
        missing = wanted - len(r.active) - terminating
        if missing <= 0:
            return
        if r.indexed:
            self._fill_indexes(r, missing)
        elif (left := self._backoff_left(r.pods)) > 0:
            self._enqueue_after(key_of(r.job), left)
        else:
            for _ in range(missing):
                self._add(r, None, 0)

    def _fill_indexes(self, r: Round, missing: int) -> None:
        busy = {index_of(pod) for pod in r.active}
        if pods_.replaces_only_failed(r.job):
            busy |= {index_of(pod) for pod in r.pods if pods_.is_terminating(pod)}
        soonest: list[float] = []
        for index in range(r.completions or 0):
            if missing == 0:
                break
            if index in busy or index in r.succeeded_indexes or index in r.failed_indexes:
                continue
            before = [pod for pod in r.pods if index_of(pod) == index and pods_.is_failed(r.job, pod)]
            relevant = before if r.per_index is not None else r.pods
            if (left := self._backoff_left(relevant)) > 0:
                soonest.append(left)
                continue
            counted = [pod for pod in before if failure_action(r.job, pod)[0] != "Ignore"]
            failures = max((pods_.failure_count(pod) for pod in before), default=-1) + 1 if counted else 0
            self._add(r, index, failures)
            missing -= 1
        if soonest:
            self._enqueue_after(key_of(r.job), min(soonest))

    def _backoff_left(self, pods: list[Obj]) -> float:
        """Seconds until the next attempt may start: doubles with each failure since the last success."""
        ended = sorted((p for p in pods if pods_.phase(p) in ("Succeeded", "Failed")), key=self._end_of)
        failures = 0
        for pod in ended:
            failures = failures + 1 if pods_.phase(pod) == "Failed" else 0
        if failures == 0:
            return 0.0
        delay: float = self._backoff_seconds * min(2 ** (failures - 1), MAX_BACKOFF)
        return self._end_of(ended[-1]) + delay - time.time()

    def _end_of(self, pod: Obj) -> float:
        """The Pod's end, finer than the whole seconds of the API where we saw it ourselves."""
        return self._ends.setdefault(pod["metadata"]["uid"], time.time())

    def _add(self, r: Round, index: int | None, failures: int) -> None:
        try:
            made = self._registry.create(PODS, r.job["metadata"]["namespace"], pods_.new_pod(r.job, index, failures))
        except ApiError as error:
            self._event(r.job, "Warning", "FailedCreate", f"Error creating: {error}")
            return
        r.pods.append(made)
        r.active.append(made)
        self._event(r.job, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    # What is written

    def _track(self, r: Round) -> None:
        status = r.status
        self._tally(status, r.pods)
        released = self._count_up(r)
        if r.verdict is not None:
            set_condition(status, r.verdict.herald, "True", r.verdict.reason, r.verdict.message)
        self._write(r)
        for pod in released:
            self._release(pod)
        self._settle(r)
        ended = r.verdict is not None and not status["terminating"] and not status.get("active")
        if ended and r.verdict is not None:
            set_condition(status, r.verdict.type, "True", r.verdict.reason, r.verdict.message)
            if r.verdict.type == "Complete":
                status["completionTime"] = condition(status, "Complete")["lastTransitionTime"]  # type: ignore[index]
        self._write(r)
        if ended and r.verdict is not None:
            good = r.verdict.type == "Complete"
            reason, message = ("Completed", "Job completed") if good else (r.verdict.reason, r.verdict.message)
            self._event(r.job, "Normal" if good else "Warning", reason, message)

    def _count_up(self, r: Round) -> list[Obj]:
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
                if self._awaits_successor(r, pod):
                    continue
                if uid not in bad and failure_action(r.job, pod)[0] != "Ignore":
                    bad.append(uid)
                released.append(pod)
        r.status["uncountedTerminatedPods"] = {
            **({"succeeded": good} if good else {}),
            **({"failed": bad} if bad else {}),
        }
        if r.indexed:
            _set_number(r.status, "succeeded", len(r.succeeded_indexes))
            if r.succeeded_indexes:
                r.status["completedIndexes"] = format_indexes(r.succeeded_indexes)
            if r.per_index is not None:
                r.status["failedIndexes"] = format_indexes(r.failed_indexes)
        return released

    def _awaits_successor(self, r: Round, pod: Obj) -> bool:
        """With backoffLimitPerIndex a failed Pod is kept, uncounted, until the next one carries its failure count on."""
        index = index_of(pod)
        if r.per_index is None or r.verdict is not None or index in r.failed_indexes:
            return False
        return all(index_of(other) != index for other in r.active)

    def _settle(self, r: Round) -> None:
        """The finalizers are off: move the uncounted into the counters."""
        uncounted = r.status["uncountedTerminatedPods"]
        good, bad = len(uncounted.get("succeeded") or []), len(uncounted.get("failed") or [])
        if good:
            _set_number(r.status, "succeeded", r.status.get("succeeded", 0) + good)
        if bad:
            _set_number(r.status, "failed", r.status.get("failed", 0) + bad)
        r.status["uncountedTerminatedPods"] = {}

    def _write(self, r: Round) -> None:
        def edit(job: Obj) -> None:
            job["status"] = clone(r.status)

        self._registry.change(JOBS, r.job, edit, "status")

    def _release(self, pod: Obj) -> None:
        def edit(copy: Obj) -> None:
            meta = copy["metadata"]
            meta["finalizers"] = [name for name in meta.get("finalizers") or [] if name != pods_.TRACKING]

        if pods_.is_tracked(pod):
            self._registry.change(PODS, pod, edit)

    def _event(self, job: Obj, type_: str, reason: str, message: str) -> None:
        self._recorder.record(JOBS, job, type_, reason, message, "job-controller")


def _set_number(status: Obj, name: str, number: int) -> None:
    """Go leaves zeroes out."""
    if number:
        status[name] = number
    else:
        status.pop(name, None)
