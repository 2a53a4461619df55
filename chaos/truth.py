"""What really happened to a Job, from the API server's answers to the writes. Pure."""

import uuid
from dataclasses import dataclass, field

from jobcast.event import EVENT_NAMESPACE

TERMINAL = frozenset({"completed", "failed", "cancelled"})


def fact_id(uid: str, status: str, key: str = "") -> str:
    """As docs/events.md states it; computed separately, because the truth must not come from Jobcast."""
    return str(uuid.uuid5(EVENT_NAMESPACE, f"{uid}/{status}/{key}"))


@dataclass(slots=True)
class Fact:
    id: str
    status: str
    at: float
    """When the API server had accepted it, on this machine's monotonic clock."""
    version: str
    """The resourceVersion of that answer; empty for a Job that went."""


@dataclass(slots=True)
class Truth:
    """One Job, as it was written."""

    name: str
    fate: str
    uid: str = ""
    facts: list[Fact] = field(default_factory=list)
    """What could be published, in order."""
    due: set[str] = field(default_factory=set)
    """Ids that must have been published at the end."""
    ends: set[str] = field(default_factory=set)
    """Ids of which one must have been published at the end. Empty while the Job is open, and for one that is promised nothing."""
    created: float = 0.0
    gone: float | None = None
    """When it went; None while the API server shows it."""
    exit_code: int | None = None
    """Of the main container that ended last; None where none did, or the Job has no Pods."""
    log: bytes | None = None
    """Of the same container, whole."""
    known_at: float | None = None
    """From then on at the latest the ledger had it; None if that was not checked, or it did not have it."""

    def note(self, status: str, at: float, version: str, key: str = "") -> Fact:
        """Once each: a fact that is written again is no new one."""
        fact = Fact(fact_id(self.uid, status, key), status, at, version)
        if all(known.id != fact.id for known in self.facts):
            self.facts.append(fact)
        return fact
