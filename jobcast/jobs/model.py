"""A Job and its Pods, trimmed to what somebody reads. Pure.

Times stay the API server's own strings, RFC 3339 in UTC; `unix` reads one. jobcast.jobs.decode makes these from its JSON.
"""

from datetime import datetime

import msgspec

DEFAULT_CONTAINER = "evaluation"
FINALIZER = "jobcast.dev/outcome"
"""Ours, where it is asked for: the Job stays until its end is published."""
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
"""On every Pod that the Job controller makes (Kubernetes 1.27 and later)."""
JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"
"""On the same Pods; it stays when a Job is deleted and its Pods are orphaned, which takes the owner away."""


def unix(time: str) -> float:
    """Unix seconds of an RFC 3339 time as the API server writes it. Raises ValueError."""
    at = datetime.fromisoformat(time)
    if at.tzinfo is None:
        raise ValueError(f"{time!r} is a time of no zone")  # and this machine's is none of the cluster's
    return at.timestamp()


class Condition(msgspec.Struct, rename="camel", frozen=True, gc=False):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What anybody reads of a Job; about 1 KB with its strings."""

    uid: str
    namespace: str
    name: str
    version: int
    """The resourceVersion, comparable as an integer: one etcd, one counter."""
    eval_id: str
    has_eval_id: bool
    """False: it is published under its own name."""
    created: str
    deleted: str | None
    """When its deletion was asked for; None while nobody has."""
    started: str | None
    completed: str | None
    labels: dict[str, str] | None
    """The allow-listed ones; None for none of them."""
    container: str | None
    """The main container's name, where the annotation says one."""
    timeout: float | None
    bad_timeout: str | None = None
    """The annotation, where it is no time."""
    artifacts: str | None = None
    """The annotation, verbatim."""
    held: bool = False
    """It has our finalizer."""
    active: int
    ready: int
    failed: int = 0
    """Failed Pods that the Job controller has counted."""
    ended_pods: int
    """succeeded + failed. Told as a last known state and used as a sign of having run; never decides a status."""
    completions: int | None = None
    """How many Pods have to succeed; None for a work queue."""
    is_indexed: bool = False
    retries: int | None = None
    """The backoffLimit, where failed Pods alone decide: neither a podFailurePolicy nor a limit for each index does."""
    completed_indexes: str = ""
    failed_indexes: str = ""
    end: Condition | None
    """The condition Complete or Failed that is True."""
    target: Condition | None = None
    """SuccessCriteriaMet or FailureTarget: what the end will be, once the Pods are gone. Not an end yet."""
    suspended: Condition | None
    """The condition Suspended that is True."""
    was_suspended: bool
    """It has a condition Suspended that is False: it runs anew, and Pods of the former run may still be around."""

    @property
    def is_empty(self) -> bool:
        """Asks for no completions at all."""
        return self.completions == 0


class Ended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a container, or one of its instances before a restart, ended."""

    started_at: str | None
    """None for one that the runtime could not start."""
    finished_at: str | None
    exit_code: int | None
    """None where the kubelet could not know it."""
    reason: str | None
    message: str | None


class Container(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One container of a Pod, as the kubelet reported it last."""

    name: str
    state: str
    """waiting, running or terminated."""
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    restarts: int = 0
    has_run: bool = False
    """It runs, or ran, or ran before a restart."""
    previous: Ended | None = None
    """The instance before the last restart; of one that waits to be restarted, the last instance."""

    @property
    def ended(self) -> Ended | None:
        """How its last instance ended: terminated, or waiting to be restarted. None while it runs, and before it ever did."""
        if self.state == "waiting":
            return self.previous
        if self.state != "terminated":
            return None
        return Ended(
            started_at=self.started_at,
            finished_at=self.finished_at,
            exit_code=self.exit_code,
            reason=self.reason,
            message=self.message,
        )


class Pod(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    uid: str
    namespace: str
    name: str
    version: int
    owner: str
    """uid of the Job that controls it, or did before it was orphaned; empty for a Pod without one."""
    index: int | None
    asked: float | None = None
    """Unix seconds, the cluster's: when its deletion was asked for. None while nobody has."""
    gone: bool = False
    """The API server has it no more; this is how it was seen last."""
    restarts: bool = False
    """A container of it that fails is started again."""
    phase: str
    reason: str | None
    """The Pod's own (Evicted, NodeLost, DeadlineExceeded, …), else why it was disrupted (EvictionByEvictionAPI, …), else
    Unschedulable."""
    message: str | None = None
    """What goes with the reason."""
    first: str
    """Name of the first container of the spec; statuses come sorted by name."""
    containers: tuple[Container, ...]
    init: tuple[Container, ...] = ()
    """Init containers in the order in which they run, native sidecars left out."""
    sidecars: tuple[Container, ...] = ()
    """Native ones: init containers that are restarted for ever."""

    @property
    def deleted(self) -> bool:
        """Its deletion was asked for, or it is gone."""
        return self.asked is not None or self.gone

    @property
    def is_over(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


def main_container(job: Job, pod: Pod) -> Container | None:
    """The container that decides: the one of the annotation, else `evaluation`, else the first of the spec."""
    containers = pod.containers
    if len(containers) > 1:
        by_name = {container.name: container for container in containers}
        for name in (job.container, DEFAULT_CONTAINER, pod.first):
            if name and name in by_name:
                return by_name[name]
    return containers[0] if containers else None
