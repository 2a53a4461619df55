"""A Job and its Pods, reduced to what Jobcast uses. Pure.

Times stay the API server's own strings, RFC 3339 in UTC; `unix` parses one.
"""

from datetime import datetime

import msgspec

_VERSION_DIGITS = 20
DEFAULT_CONTAINER = "evaluation"
FINALIZER = "jobcast.dev/outcome"
"""Ours, where the setting says so: the Job stays until its end is published."""
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
"""On every Pod that the Job controller creates (Kubernetes 1.27 and later), unless the Job has `manualSelector`."""
JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"
"""On the same Pods; unlike the owner it stays when the Job is deleted and its Pods are orphaned."""


def unix(time: str) -> float:
    """Unix seconds of an RFC 3339 time as the API server writes it. Raises ValueError."""
    at = datetime.fromisoformat(time)
    if at.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return at.timestamp()


def is_version(text: str) -> bool:
    """Whether it is a comparable resourceVersion: an unsigned number of up to 64 bits."""
    return text.isascii() and text.isdecimal() and len(text) <= _VERSION_DIGITS


class Condition(msgspec.Struct, rename="camel", frozen=True, gc=False):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """About 1 KB with its strings."""

    uid: str
    namespace: str
    name: str
    version: int
    """The resourceVersion; comparable, because etcd has one counter."""
    eval_id: str
    has_eval_id: bool
    """False: the Job's name stands in."""
    bad_eval_id: str | None = None
    """The beginning of an annotation that is too long to be an id."""
    later_eval_id: str | None = None
    """The label or annotation as it is now, if it was changed: the first one stays."""
    created: str
    deleted: str | None = None
    """When its deletion was requested."""
    started: str | None = None
    completed: str | None = None
    labels: dict[str, str] | None = None
    """The allow-listed ones; None if it has none of them."""
    container: str | None = None
    """The main container's name, from the annotation."""
    timeout: float | None = None
    bad_timeout: str | None = None
    """The annotation, if it is nonsense."""
    artifacts: str | None = None
    """The annotation, verbatim."""
    held: bool = False
    """It has our finalizer."""
    selector: str | None = None
    """Of its Pods, as a query, if it has a selector of its own (manualSelector): then they do not have the usual labels."""
    active: int = 0
    ready: int = 0
    failed: int = 0
    """Failed Pods that the Job controller has counted."""
    ended_pods: int = 0
    """succeeded + failed. It shows that Pods have ended; it never decides a status."""
    completions: int | None = None
    """How many Pods must succeed; None for a work queue."""
    is_indexed: bool = False
    retries: int | None = None
    """The backoffLimit, where only the number of failed Pods decides: no podFailurePolicy, no limit per index."""
    completed_indexes: str = ""
    failed_indexes: str = ""
    end: Condition | None = None
    """The condition Complete or Failed that is True."""
    target: Condition | None = None
    """SuccessCriteriaMet or FailureTarget: what the end will be when the Pods are gone. Not an end yet."""
    suspended: Condition | None = None
    """The condition Suspended that is True."""
    is_to_be_suspended: bool = False
    """The spec's `suspend`. After it is taken back, the condition stays True until the first Pods are made."""
    was_suspended: bool = False
    """The condition Suspended is False: it was resumed, and Pods of the former run may still exist."""

    @property
    def pod_selector(self) -> str:
        """Matches its Pods, and perhaps others: they are its own if it owns them."""
        return self.selector or f"{JOB_NAME_LABEL}={self.name}"

    @property
    def has_one_pod_at_a_time(self) -> bool:
        """A Pod that was made later replaces the one before."""
        return self.completions == 1

    @property
    def is_empty(self) -> bool:
        """It needs no completions."""
        return self.completions == 0


class Suspension(msgspec.Struct, frozen=True, gc=False):
    """The last suspension of a Job that was seen: which of its Pods belong to the start before."""

    at: str
    """When the condition became True."""
    version: int = 0
    """The latest resourceVersion of the Job in which it was to be suspended: a Pod as of this version is older than the resume."""
    resumed: str = ""
    """The startTime that followed; empty while it is suspended."""

    @classmethod
    def parse(cls, text: str) -> "Suspension | None":
        """Of what `str` wrote; None for anything else."""
        at, _, rest = text.partition(" ")
        version, _, resumed = rest.partition(" ")
        return cls(at, int(version), resumed) if is_version(version) else None

    def __str__(self) -> str:
        return f"{self.at} {self.version} {self.resumed}"


class Ended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a container, or one of its instances before a restart, ended."""

    started_at: str | None
    """None if the runtime could not start it."""
    finished_at: str | None
    exit_code: int | None
    """None if the kubelet does not know it."""
    reason: str | None
    message: str | None


class Container(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One container of a Pod, in the state that the kubelet reported last."""

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
    """It runs, or ran at any time."""
    previous: Ended | None = None
    """The instance before the last restart; while it waits to be restarted, the last instance."""

    @property
    def ended(self) -> Ended | None:
        """How its last instance ended, also while it waits to be restarted. None while it runs, and before its first start."""
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
    """uid of the Job that controls it, or did before it was orphaned; else empty."""
    index: int | None
    created: str = ""
    asked: float | None = None
    """When its deletion was requested: Unix seconds by the API server's clock."""
    ended_first: tuple[str, ...] = ()
    """Names of the containers that were seen to have ended before its deletion was requested."""
    gone: bool = False
    """The API server no longer has it; this is its last known state."""
    restarted: tuple[str, ...] = ()
    """Names of the containers that may be started again when they fail, by the Pod's restartPolicy or by their own."""
    reruns: tuple[str, ...] = ()
    """Names of those that may be started again whatever their exit code, by their own restartPolicy or its rules."""
    phase: str
    reason: str | None
    """The Pod's own (Evicted, NodeLost, DeadlineExceeded, …), else why it was disrupted (EvictionByEvictionAPI, …), else
    Unschedulable."""
    message: str | None = None
    """The reason's message."""
    first: str
    """Name of the spec's first container; statuses come sorted by name."""
    containers: tuple[Container, ...]
    init: tuple[Container, ...] = ()
    """Init containers in the order in which they run, without native sidecars."""
    sidecars: tuple[Container, ...] = ()
    """Native ones: init containers with restartPolicy Always."""

    @property
    def deleted(self) -> bool:
        """Its deletion was requested, or it is gone."""
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
