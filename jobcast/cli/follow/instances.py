"""The container instances of a Job's Pods that have logs, and a log that is read repeatedly. Pure."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation

Key = tuple[str, str, int]
"""Pod, container, and number of restarts before."""


class Instance(NamedTuple):
    """A container from a start to its end: each instance has its own log."""

    started_at: str
    pod: str
    container: str
    number: int
    is_over: bool
    is_former: bool
    """Another instance followed: the API server returns this log as the previous one."""
    completion_index: int | None = None
    """The completion index of the Pod."""

    @property
    def key(self) -> Key:
        return self.pod, self.container, self.number

    @property
    def source(self) -> str:
        """As in the record."""
        return f"{self.pod}/{self.container}"


def instances(job: Job, pods: Sequence[Pod]) -> list[Instance]:
    """Instances of the deciding container of each Pod that the API server has a log of, in the order of their starts."""
    found = []
    for outcome in Observation(job, pods).current:
        pod, container = outcome.pod, outcome.container
        if container.previous is not None and container.state != "waiting" and container.previous.started_at:
            before = container.previous.started_at
            found.append(Instance(before, pod.name, container.name, container.restarts - 1, True, True, pod.index))
        started_at = container.ended.started_at if container.ended is not None else container.started_at
        if started_at:
            is_over = container.state != "running"
            found.append(Instance(started_at, pod.name, container.name, container.restarts, is_over, False, pod.index))
    return sorted(found, key=lambda one: one[:4])


class Differs(Exception):
    """The log that is read again has another beginning."""


class Continued:
    """A log that may be read from its beginning several times; each byte is written once."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.size = 0
        """Bytes written."""
        self._write = write
        self._written = hashlib.sha256()
        self._at = 0
        self._passed = hashlib.sha256()

    def forget(self) -> None:
        """The next chunk begins another log."""
        self.size = 0
        self._written = hashlib.sha256()

    def begin(self) -> None:
        """The next chunk begins the same log again."""
        self._at = 0
        self._passed = hashlib.sha256()

    def feed(self, chunk: bytes) -> None:
        """Raises Differs, before writing, if the chunk does not continue what was written."""
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
