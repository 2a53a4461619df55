"""What a log store is: where a log has its place, what goes in, and how it says no. No I/O.

LogPlace ──▶ Archive.sink(place) ──▶ write … write ──▶ commit ──▶ Kept
                                              └─▶ abort
"""

import hashlib
import re
from typing import NamedTuple, Protocol

UNAVAILABLE = "store-unavailable"
"""It could not be reached, or not in time: trying again later may help."""
REFUSED = "store-refused"
"""It said no: credentials, permissions, a missing bucket, no room. Somebody has to mend something."""

_LONGEST_PART = 200
"""File systems take names of 255 bytes; the container's part gets `.<instance>.log` at its end, and a store may add a suffix."""
_SAFE = re.compile(r"(?!\.+$)[A-Za-z0-9._-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class LogPlace(NamedTuple):
    """Which log: one instance of one container."""

    namespace: str
    job: str
    """The Job's name."""
    uid: str
    """The Job's."""
    pod: str
    container: str
    instance: int = 0
    """How often the container had been restarted before."""

    @property
    def source(self) -> str:
        return f"{self.pod}/{self.container}"

    @property
    def path(self) -> str:
        """`namespace/job/uid/pod/container.instance.log`. What Kubernetes allows in a name stays as it is."""
        parts = [_safe(part) for part in (self.namespace, self.job, self.uid, self.pod, self.container)]
        return f"{'/'.join(parts)}.{self.instance}.log"


def _safe(part: str) -> str:
    if _SAFE.fullmatch(part) and len(part) <= _LONGEST_PART:
        return part
    # Different names keep different places: what had to be replaced is published apart by a hash.
    digest = hashlib.sha256(part.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{_UNSAFE.sub('_', part)[:_LONGEST_PART].strip('.')}_{digest}"


class ArchiveError(Exception):
    """The store did not take a log, or did not give it. `str()` is one readable line without secrets."""

    def __init__(self, reason: str, line: str) -> None:
        super().__init__(line)
        self.reason = reason
        """UNAVAILABLE or REFUSED: an event's `log.reason`."""


class Kept(NamedTuple):
    """A log that is kept."""

    ref: str
    """Where: an event's `log.ref`."""
    bytes: int
    """How much of it: less than the log has where the store has a limit."""


class Sink(Protocol):
    """One log on its way in; for one task."""

    async def write(self, chunk: bytes) -> None:
        """Take some more of it. May wait for the store: what is held in memory is bounded. Raises ArchiveError."""
        ...

    async def commit(self) -> Kept:
        """Keep it, whole and at once: nothing is visible before. Raises ArchiveError.

        Where a log of the same place with as many bytes or more is kept already, that one stays, and is what is returned.
        """
        ...

    async def abort(self, because: ArchiveError | None = None) -> None:
        """Let it be, also after a write or a commit that failed. Does not wait for the store, never raises.

        `because` is given when the store was given up: the archive may then spare others the same wait.
        """
        ...


class Archive(Protocol):
    """A log store. May be used by many tasks of one event loop."""

    def sink(self, place: LogPlace) -> Sink:
        """For one log. Does no I/O."""
        ...

    async def aclose(self) -> None:
        """What is still being tidied up gets a few seconds for it."""
        ...
