"""A cluster's history in memory: every state of every Job and Pod, each with its resourceVersion, for watchers to follow."""

import json
from dataclasses import dataclass, field
from typing import Any

from jobcast.event import event_id
from jobcast.jobs.model import Job, Pod
from jobcast.kube import JOBS, PODS, Change
from tests.unit.objects import READING, ended_state, pod_json, running_state, waiting_state


@dataclass
class SimPod:
    name: str
    started: str | None = None
    finished: str | None = None
    code: int = 0
    asked: str | None = None
    """When its deletion was asked for."""
    gone: bool = False

    @property
    def deleted(self) -> bool:
        return self.asked is not None

    @property
    def is_active(self) -> bool:
        return self.finished is None and not self.deleted and not self.gone

    @property
    def ended_by_itself(self) -> bool:
        return self.finished is not None and (self.asked is None or self.finished < self.asked)


@dataclass
class SimJob:
    uid: str
    name: str
    created: str
    start: str | None
    suspended: str | None = None
    was_suspended: bool = False
    retries: int = 0
    target: str | None = None
    """The end that the Job controller has decided on: Complete or Failed."""
    end: str | None = None
    ended_at: str | None = None
    deleted: str | None = None
    gone: bool = False
    ready: int = 0
    pods: list[SimPod] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    """Every startTime it ever had."""
    ran: set[str] = field(default_factory=set)
    """Those at which a container really ran."""
    suspensions: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.end is None and self.deleted is None and not self.gone

    def may_have(self, end: str) -> bool:
        """Whether a Job that was deleted had reached this end by then, for all that anybody could see."""
        if self.deleted is None and not self.gone:
            return False
        good = [pod for pod in self.pods if pod.ended_by_itself and pod.code == 0]
        bad = [pod for pod in self.pods if pod.ended_by_itself and pod.code != 0]
        return self.target == end or (bool(good) if end == "Complete" else len(bad) > self.retries)

    def ids(self, status: str) -> set[str]:
        keys = {"running": self.starts, "suspended": self.suspensions}.get(status, [""])
        return {event_id(self.uid, status, key) for key in keys}

    def moment(self, event: str) -> str | None:
        """When the fact of that event's id began; None for an end."""
        moments = {event_id(self.uid, "running", start): start for start in self.starts}
        return (moments | {event_id(self.uid, "suspended", at): at for at in self.suspensions}).get(event)

    def json(self, version: int) -> dict[str, Any]:
        conditions = []
        if self.suspended is not None:
            conditions.append({"type": "Suspended", "status": "True", "lastTransitionTime": self.suspended})
        elif self.was_suspended:
            conditions.append({"type": "Suspended", "status": "False"})
        if self.target is not None:
            name = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[self.target]
            conditions.append({"type": name, "status": "True", "lastTransitionTime": self.created})
        if self.end is not None:
            conditions.append({"type": self.end, "status": "True", "lastTransitionTime": self.ended_at})
        ended = sum(pod.finished is not None for pod in self.pods)
        return {
            "metadata": {
                "uid": self.uid,
                "name": self.name,
                "namespace": "evals",
                "resourceVersion": str(version),
                "creationTimestamp": self.created,
                "deletionTimestamp": self.deleted,
                "labels": {"app": "evaluation", "eval-id": self.name},
            },
            "spec": {"completions": 1, "backoffLimit": self.retries},
            "status": {
                "startTime": self.start,
                "conditions": conditions,
                "ready": self.ready,
                "active": sum(pod.is_active for pod in self.pods),
                "failed": ended,
            },
        }


class History:
    """What happened, in order. Each change is appended for the watches; the present is what lists and gets show."""

    def __init__(self) -> None:
        self.version = 1000
        self.seconds = 0
        self.jobs: list[SimJob] = []
        self.job_changes: list[Change[Job]] = []
        self.pod_changes: list[Change[Pod]] = []
        self.clears_start = True
        """Whether suspending clears startTime, as Kubernetes does from 1.35 on."""

    def now(self) -> str:
        return f"2026-11-20T{self.seconds // 3600:02}:{self.seconds // 60 % 60:02}:{self.seconds % 60:02}Z"

    def tick(self) -> str:
        self.seconds += 1
        return self.now()

    # What the API server shows now.

    def shown(self) -> list[SimJob]:
        return [job for job in self.jobs if not job.gone]

    def decoded(self, job: SimJob) -> Job:
        return JOBS.one(json.dumps(job.json(self.version)).encode(), READING)

    def list_jobs(self) -> list[Job]:
        last: dict[str, Job] = {}
        for change in self.job_changes:
            assert change.object is not None
            last[change.object.uid] = change.object
        return [last[job.uid] for job in self.shown()]

    def list_pods(self) -> list[Pod]:
        last: dict[str, Change[Pod]] = {}
        for change in self.pod_changes:
            assert change.object is not None
            last[change.object.uid] = change
        return [change.object for change in last.values() if change.type != "DELETED" and change.object is not None]

    async def job(self, namespace: str, name: str) -> Job | None:
        return next((self.decoded(job) for job in self.shown() if job.name == name), None)

    async def pods_of(self, namespace: str, selector: str) -> list[Pod]:
        owners = {job.uid for job in self.shown() if selector.endswith(f"={job.name}")}
        return [pod for pod in self.list_pods() if pod.owner in owners]

    # What happens.

    def tell_job(self, job: SimJob, kind: str = "MODIFIED") -> None:
        self.version += 1
        self.job_changes.append(Change(kind, str(self.version), self.decoded(job)))

    def tell_pod(self, job: SimJob, pod: SimPod, kind: str = "MODIFIED") -> None:
        self.version += 1
        state = waiting_state()
        if pod.finished is not None:
            state = ended_state(pod.code, pod.started, pod.finished)
        elif pod.started is not None:
            state = running_state(pod.started)
        phase = "Pending" if pod.started is None else "Running"
        if pod.finished is not None:
            phase = "Failed" if pod.code else "Succeeded"
        meta = {"deletionTimestamp": pod.asked, "deletionGracePeriodSeconds": 0} if pod.asked else None
        whole = pod_json(state, name=pod.name, owner=job.uid, version=self.version, meta=meta, phase=phase)
        self.pod_changes.append(Change(kind, str(self.version), PODS.one(json.dumps(whole).encode(), READING)))

    def create(self, name: str, suspended: bool, retries: int) -> SimJob:
        now = self.tick()
        job = SimJob(
            uid=f"uid-{len(self.jobs)}", name=name, created=now, retries=retries, start=None if suspended else now
        )
        if suspended:
            job.suspended = now
            job.suspensions.append(now)
        else:
            job.starts.append(now)
        self.jobs.append(job)
        self.tell_job(job, "ADDED")
        return job

    def add_pod(self, job: SimJob) -> None:
        pod = SimPod(name=f"{job.uid}-pod-{len(job.pods)}")
        job.pods.append(pod)
        self.tell_pod(job, pod, "ADDED")

    def start_pod(self, job: SimJob, pod: SimPod) -> None:
        pod.started = self.tick()
        assert job.start is not None
        job.ran.add(job.start)
        self.tell_pod(job, pod)

    def end_pod(self, job: SimJob, pod: SimPod, code: int) -> None:
        pod.finished, pod.code = self.tick(), code
        self.tell_pod(job, pod)

    def remove_pod(self, job: SimJob, pod: SimPod) -> None:
        pod.gone = True
        self.tell_pod(job, pod, "DELETED")

    def count(self, job: SimJob) -> None:
        job.ready = sum(pod.is_active and pod.started is not None for pod in job.pods)
        self.tell_job(job)

    def suspend(self, job: SimJob) -> None:
        job.suspended = self.tick()
        job.suspensions.append(job.suspended)
        job.ready = 0
        if self.clears_start:
            job.start = None
        for pod in job.pods:
            if pod.is_active:
                pod.asked = job.suspended
                self.tell_pod(job, pod)
        self.tell_job(job)

    def resume(self, job: SimJob) -> None:
        job.start = self.tick()
        job.starts.append(job.start)
        job.suspended, job.was_suspended = None, True
        self.tell_job(job)

    def aim(self, job: SimJob, kind: str) -> None:
        """SuccessCriteriaMet or FailureTarget: it is decided, and not the end yet."""
        job.target = kind
        self.tell_job(job)

    def end(self, job: SimJob, kind: str) -> None:
        job.end, job.ended_at, job.ready = kind, self.tick(), 0
        self.tell_job(job)

    def ask_deletion(self, job: SimJob) -> None:
        job.deleted = self.tick()
        self.tell_job(job)

    def vanish(self, job: SimJob) -> None:
        job.gone = True
        self.tell_job(job, "DELETED")
        for pod in job.pods:
            if not pod.gone:
                self.remove_pod(job, pod)
