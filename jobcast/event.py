"""The event: its statuses, its id, its shape. Pure.

One struct per status; the field `status` says which. On the wire it is flat JSON; consumers must ignore unknown fields.

    Event ── Running | Suspended | Cancelled | Completed | Failed
                                  └─ terminal: nothing of the same Job follows ─┘
"""

import hashlib
import uuid
from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec

EVENT_NAMESPACE = uuid.UUID("8b0f6f43-3f0c-5f5e-9a3d-6f1f6d1a7c55")
"""Fixed for ever: another one would publish every event again under a new id."""
_NAMESPACE_BYTES = EVENT_NAMESPACE.bytes


class Status(StrEnum):
    """What is published about a Job. Before its first event a Job has none of these; the ledger calls it pending."""

    RUNNING = "running"
    """A main container runs or has run. Published once per start: a resumed Job starts again."""
    SUSPENDED = "suspended"
    """The Job's condition Suspended is True. It may alternate with running."""
    COMPLETED = "completed"
    """The Job's condition Complete is True."""
    FAILED = "failed"
    """The Job's condition Failed is True."""
    CANCELLED = "cancelled"
    """The Job was deleted before Complete or Failed."""

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
MAX_EVAL_ID_BYTES = 1024
"""Of an eval_id in an annotation; a label has at most 63. It becomes part of Redis' keys and of channels."""
PENDING = "pending"
"""The ledger's status of a Job without an event yet."""


def event_id(uid: str, status: str, key: str) -> str:
    """The id of a fact: the same from every replica, at any time.

    `key` distinguishes recurrences: the Job's `status.startTime` for running, the condition's `lastTransitionTime` for
    suspended, both verbatim from the API server, and empty for an end, which comes once.
    """
    # As uuid.uuid5, without the UUID object: this runs for each change of each Job.
    digest = hashlib.sha1(_NAMESPACE_BYTES + f"{uid}/{status}/{key}".encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 0b11]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


class JobRef(msgspec.Struct, frozen=True):
    """Which Job. The uid identifies it: a name may be used again."""

    namespace: str
    name: str
    uid: str


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one container's log."""

    state: Literal["complete", "truncated", "unavailable"] = "unavailable"
    reason: str | None = None
    """Why it is not complete; see docs/events.md for the list."""
    bytes: int = 0
    """Size of the log that was read, not of the excerpt."""
    source: str | None = None
    """`<pod>/<container>`."""
    ref: str | None = None
    """Where the whole log is kept; None when it is not kept."""
    sha256: str | None = None
    """Of the log that was read, hexadecimal."""
    instance: int = 0
    """How often the container had been restarted: each instance has its own log."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One Pod of the Job. Times are the kubelet's, RFC 3339."""

    pod: str
    index: int | None = None
    """The completion index, of Indexed Jobs only."""
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None
    """None while it runs and where it is unknown (node lost, never started)."""
    reason: str | None = None
    """The Pod's own (Evicted, NodeLost), else why it was disrupted (EvictionByEvictionAPI, …), else the container's (Completed,
    Error, OOMKilled), else why it waits."""
    restarts: int = 0
    container: str | None = None
    """Whose exit code this is: the main container, or the init container that failed before the main one could start."""
    role: Literal["main", "init"] = "main"
    message: str | None = None
    """The container's termination message, else why it waits, else the Pod's own message."""
    logs: list[Log] = []
    """The logs that were read, of its containers and their former instances; the main container's latest comes first."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A result of the evaluation, from the Job's annotation `jobcast/artifacts`."""

    name: str
    location: str


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="status"):
    id: str
    eval_id: str
    timestamp: float
    """Unix seconds: the cluster's time of the transition."""
    time: str
    """The same, RFC 3339."""
    job: JobRef
    metadata: dict[str, str]
    """`job_name` and the allow-listed labels of the Job."""
    warnings: list[str] = []
    """What is wrong with the Job's annotations, or uncertain about this event; one readable line each."""

    @property
    def status(self) -> Status:
        return _BY_TAG[self.__struct_config__.tag]


_BY_TAG: dict[object, Status] = {status.value: status for status in Status}


class Running(_Event, frozen=True, kw_only=True, tag="running"):
    started_at: str | None
    timeout: float | None
    """Seconds: the Job's annotation `timeout`, else its activeDeadlineSeconds."""
    executor_id: str
    container_id: str


class Suspended(_Event, frozen=True, kw_only=True, tag="suspended"):
    reason: str | None


class Cancelled(_Event, frozen=True, kw_only=True, tag="cancelled"):
    reason: str
    """JobDeleted, or JobBeingDeleted while a finalizer holds the Job."""
    cancelled_at: str
    job_name: str
    last_status: str
    """Its last status before: pending, running or suspended."""
    attempts: list[Attempt] = []
    """Its Pods in their last known state."""


class Ended(_Event, frozen=True, kw_only=True):
    """What completed and failed have in common. Lists are `[]`, never null."""

    exit_code: int | None
    """Of the main container of the deciding attempt. None when it is unknown, never invented."""
    output: str
    """Excerpt of the log, head and tail; bytes that are not UTF-8 become replacement characters."""
    output_truncated: bool
    error: str | None
    """One readable line, of failed Jobs only."""
    duration_seconds: float | None
    reason: str | None
    """The condition's, verbatim."""
    attempts: list[Attempt]
    log: Log
    container: str | None = None
    """The container with this exit code and output; None when no container ended."""
    role: Literal["main", "init"] = "main"
    """`init` when an init container failed, so that no main container ever ran."""
    artifacts: list[Artifact] = []


class Completed(Ended, frozen=True, kw_only=True, tag="completed"):
    pass


class Failed(Ended, frozen=True, kw_only=True, tag="failed"):
    pass


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Published on its own channel while a Job is open. It is not in the stream; `status` is the Job's current status.

    Each is published at most once, and never after the Job's end.
    """

    id: str
    status: str
    """The Job's: running, suspended or pending."""
    eval_id: str
    timestamp: float
    time: str
    job: JobRef
    metadata: dict[str, str]
    warnings: list[str] = []
    kind: Literal["attempt-ended", "index-finished", "main-ended"]
    """An attempt failed and another follows; an index has succeeded or failed for good; the main container has ended while
    the Job is still open, because of a sidecar or because the Job controller has not ended it yet."""
    attempt: Attempt


Event: TypeAlias = Running | Suspended | Cancelled | Completed | Failed


def log_fields(event: Event) -> dict[str, str | int | None]:
    """The fields of the one log line about a Job's change of status."""
    fields: dict[str, str | int | None] = {
        "status": event.status.value,
        "job": f"{event.job.namespace}/{event.job.name}",
        "uid": event.job.uid,
        "eval_id": event.eval_id,
    }
    if isinstance(event, Ended):
        fields |= {"exit_code": event.exit_code, "reason": event.reason}
    return fields
