"""The logs that a Job's Pods have, in the order in which their containers started, and one that is read more than once. Pure."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation

Key = tuple[str, str, int]
"""Pod, container, and how often it was restarted before: as a log's place has it."""


class Instance(NamedTuple):
    """A container's run from one start to its end: each has a log of its own."""

    started_at: str
    pod: str
    container: str
    number: int
    is_over: bool
    is_former: bool
    """Another has followed: the API server gives its log as that of the previous one."""

    @property
    def key(self) -> Key:
        return self.pod, self.container, self.number

    @property
    def source(self) -> str:
        """As the record says it."""
        return f"{self.pod}/{self.container}"


def instances(job: Job, pods: Sequence[Pod]) -> list[Instance]:
    """Those of the deciding container of each Pod that the API server still has a log of, the first started first."""
    found = []
    for outcome in Observation(job, pods).current:
        pod, container = outcome.pod, outcome.container
        if container.previous is not None and container.state != "waiting" and container.previous.started_at:
            before = container.previous.started_at
            found.append(Instance(before, pod.name, container.name, container.restarts - 1, True, True))
        started_at = container.ended.started_at if container.ended is not None else container.started_at
        if started_at:
            is_over = container.state != "running"
            found.append(Instance(started_at, pod.name, container.name, container.restarts, is_over, False))
    return sorted(found)


class Differs(Exception):
    """What is read again does not begin as it did before."""


class Continued:
    """A log that may be read from its beginning many times, and of which each byte is written once."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.size = 0
        """Bytes written."""
        self._write = write
        self._written = hashlib.sha256()
        self._at = 0
        self._passed = hashlib.sha256()

    def forget(self) -> None:
        """What is fed next is another log."""
        self.size = 0
        self._written = hashlib.sha256()

    def begin(self) -> None:
        """What is fed next is the log from its beginning."""
        self._at = 0
        self._passed = hashlib.sha256()

    def feed(self, chunk: bytes) -> None:
        """Raises Differs before anything is written that would not go on where the log was."""
        known, new = chunk[: max(self.size - self._at, 0)], chunk[max(self.size - self._at, 0) :]
        if known:
            self._at += len(known)
            self._passed.update(known)
            if self._at == self.size and self._passed.digest() != self._written.digest():
                raise Differs
        if new:
            self._write(new)
            self._written.update(new)
            self.size += len(new)
            self._at = self.size
