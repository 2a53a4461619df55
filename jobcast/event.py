"""The event: its statuses, its id, its shape. Pure.

One struct a status, told apart by `status`. On the wire it is flat JSON; consumers must ignore fields they do not know.

    Event ── Running | Suspended | Cancelled | Completed | Failed
                                  └─ terminal: nothing of the same Job follows ─┘
"""

import hashlib
import uuid
from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec

EVENT_NAMESPACE = uuid.UUID("8b0f6f43-3f0c-5f5e-9a3d-6f1f6d1a7c55")
"""Fixed for ever: with another one, every event would be told again under a new id."""


_NAMESPACE_BYTES = EVENT_NAMESPACE.bytes


class Status(StrEnum):
    """What is told of a Job. A Job of which nothing is told yet has none of these; the ledger calls it pending."""

    RUNNING = "running"
    """A main container runs or has run. Once per start: a resumed Job runs anew."""
    SUSPENDED = "suspended"
    """The Job's condition Suspended is True. May alternate with running."""
    COMPLETED = "completed"
    """The Job's condition Complete is True."""
    FAILED = "failed"
    """The Job's condition Failed is True."""
    CANCELLED = "cancelled"
    """The Job is gone, or going, before Complete or Failed."""

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
PENDING = "pending"
"""The ledger's word for a Job that was seen and of which nothing was told."""


def event_id(uid: str, status: str, key: str) -> str:
    """The id of a fact, the same for ever, whoever looks and however late.

    `key` marks the recurrence: the Job's `status.startTime` for running, the condition's `lastTransitionTime` for
    suspended, both verbatim as the API server shows them, and empty for an end, of which there is one.
    """
    # uuid.uuid5, without the object in between: it is asked for each change of each Job.
    digest = hashlib.sha1(_NAMESPACE_BYTES + f"{uid}/{status}/{key}".encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 0b11]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


class JobRef(msgspec.Struct, frozen=True):
    """Which Job. Identity is the uid: a name may be used again."""

    namespace: str
    name: str
    uid: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One Pod of the Job, as its main container told it. Times are the kubelet's, RFC 3339."""

    pod: str
    index: int | None = None
    """The completion index, of Indexed Jobs only."""
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None
    """None while it runs and when nobody can know it (node lost, never started)."""
    reason: str | None = None
    """The container's reason (Completed, Error, OOMKilled), else the Pod's (Evicted), else why it waits."""
    restarts: int = 0


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the log behind `output`."""

    state: Literal["complete", "truncated", "unavailable"] = "unavailable"
    reason: str | None = None
    """Why it is not complete; see docs/events.md for the list."""
    bytes: int = 0
    """Size of what was read, not of the excerpt."""
    source: str | None = None
    """`<pod>/<container>` that was read."""
    ref: str | None = None
    """Where the exact bytes are kept; None when they are not."""
    sha256: str | None = None
    """Of the bytes read, hexadecimal."""


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
    """JobDeleted, or JobBeingDeleted while a finalizer still holds it."""
    cancelled_at: str
    job_name: str
    last_status: str
    """What was last told of it: pending, running or suspended."""


class Ended(_Event, frozen=True, kw_only=True):
    """What completed and failed have in common. Lists are `[]`, never null."""

    exit_code: int | None
    """Of the main container of the attempt that decided. None when unknown, never invented."""
    output: str
    """Excerpt of the log, head and tail; bytes that are not UTF-8 are shown as replacement characters."""
    output_truncated: bool
    error: str | None
    """One readable line, of failed Jobs only."""
    duration_seconds: float | None
    reason: str | None
    """The condition's, verbatim."""
    attempts: list[Attempt]
    log: Log


class Completed(Ended, frozen=True, kw_only=True, tag="completed"):
    pass


class Failed(Ended, frozen=True, kw_only=True, tag="failed"):
    pass


Event: TypeAlias = Running | Suspended | Cancelled | Completed | Failed
