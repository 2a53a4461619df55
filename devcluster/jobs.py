"""The Job controller: makes Pods for Jobs, counts how they end, and says when a Job is over.

The order of writes is the real controller's, because watchers see each of them: count in `uncountedTerminatedPods`
(with SuccessCriteriaMet or FailureTarget, once that is clear), take the finalizers off the Pods, move the count over,
and say Complete or Failed when no Pod is left running.
"""

from __future__ import annotations

import asyncio
import time

from devcluster import jobpods as pods_
from devcluster.clock import parse, stamp
from devcluster.errors import ApiError, Obj
from devcluster.events import Recorder
from devcluster.jobindexes import index_of
from devcluster.jobpolicy import failure_action
from devcluster.jobround import Round, count, count_up, judge, settle, tally
from devcluster.jobstatus import condition, is_finished, is_ours, set_condition
from devcluster.registry import Registry
from devcluster.scheme import JOBS, PODS
from devcluster.store import Event, Key, clone, key_of

MAX_BACKOFF = 60
"""Times the first delay; a real controller goes from 10 s to 10 min."""


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
        self._failures: dict[str, dict[str, tuple[float, int | None]]] = {}
        """By Job uid and its failed Pods', when they ended and of which index: the back-off outlives the Pod."""
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
            if event.type == "DELETED":
                self._failures.pop(event.new["metadata"]["uid"], None)
                for resource, pod in self._store.owned(event.new["metadata"]["uid"]):
                    if resource is PODS:
                        self._loop.call_soon(self._release, pod)
        elif event.resource is PODS:
            meta = event.new["metadata"]
            for reference in (
                meta.get("ownerReferences") or (event.old or event.new)["metadata"].get("ownerReferences") or []
            ):
                if reference["kind"] == "Job":
                    self._enqueue((meta["namespace"], reference["name"]))
                    if event.type != "DELETED":
                        self._release_orphan(event.new, reference)
            if event.type == "DELETED":
                self._ends.pop(meta["uid"], None)

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
        """Nothing holds a Pod whose Job is gone."""
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
        count(round_)
        judge(round_)
        if round_.deadline_in is not None:
            self._enqueue_after(key_of(job), round_.deadline_in)
        self._act(round_)
        self._track(round_)

    def _recount(self, job: Obj) -> None:
        status = clone(job["status"])
        pods = [pod for resource, pod in self._store.owned(job["metadata"]["uid"]) if resource is PODS]
        if status.get("startTime"):
            tally(status, pods)
            self._write(Round(job, status, pods))

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

    # What follows from it

    def _act(self, r: Round) -> None:
        suspended = r.job["spec"]["suspend"]
        if r.verdict is not None or suspended:
            self._remove(r, list(r.active))
        else:
            self._scale(r)
        if r.verdict is None:
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
        elif (left := self._backoff_left(r, r.pods)) > 0:
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
            if (left := self._backoff_left(r, relevant, index if r.per_index is not None else None)) > 0:
                soonest.append(left)
                continue
            counted = [pod for pod in before if failure_action(r.job, pod)[0] != "Ignore"]
            failures = max((pods_.failure_count(pod) for pod in before), default=-1) + 1 if counted else 0
            self._add(r, index, failures)
            missing -= 1
        if soonest:
            self._enqueue_after(key_of(r.job), min(soonest))

    def _backoff_left(self, r: Round, pods: list[Obj], index: int | None = None) -> float:
        """Seconds until the next attempt may start: doubles with each failure since the last success."""
        known = self._failures.get(r.job["metadata"]["uid"], {})
        ends = {uid: (end, True) for uid, (end, of) in known.items() if index in (None, of)}
        for pod in pods:
            failed = pods_.phase(pod) == "Failed" or (pods_.is_tracked(pod) and pods_.is_failed(r.job, pod))
            if failed or pods_.phase(pod) == "Succeeded":
                ends[pod["metadata"]["uid"]] = (self._end_of(pod), failed)
        failures = 0
        for _, failed in sorted(ends.values()):
            failures = failures + 1 if failed else 0
        if failures == 0:
            return 0.0
        last = max(end for end, _ in ends.values())
        delay: float = self._backoff_seconds * min(2 ** (failures - 1), MAX_BACKOFF)
        return last + delay - time.time()

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
        tally(status, r.pods)
        released = count_up(r)
        if r.verdict is not None:
            set_condition(status, r.verdict.herald, "True", r.verdict.reason, r.verdict.message)
        self._write(r)
        for pod in released:
            self._release(pod)
            if pods_.phase(pod) != "Succeeded" and not r.job["spec"]["suspend"]:
                failures = self._failures.setdefault(r.job["metadata"]["uid"], {})
                failures[pod["metadata"]["uid"]] = (self._end_of(pod), index_of(pod))
        settle(r)
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
