"""What a log store promises. No I/O.

LogPlace ──▶ LogStore.new_upload(place) ──▶ write … write ──▶ commit ──▶ Stored
                                                     └─▶ abort
"""

import hashlib
import re
from typing import NamedTuple, Protocol

UNAVAILABLE = "store-unavailable"
"""The store is unreachable or too slow: a retry may help."""
REFUSED = "store-refused"
"""The store rejects the log: wrong credentials, a missing permission or bucket, no space. An operator must act."""

LARGEST_BYTES = 268_435_456
"""The largest LOG_STORE_LIMIT_BYTES with LOG_STORE=redis. A larger log in Redis is not Jobcast's: it would fill a reader's memory."""
_LONGEST_PART = 200
"""File systems allow names of 255 bytes; the container's part is followed by `.<instance>.log`, and a store may add a suffix."""
_SAFE = re.compile(r"(?!\.+$)[A-Za-z0-9._-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class LogPlace(NamedTuple):
    """Identifies the log of one instance of one container."""

    namespace: str
    job: str
    """The Job's name."""
    uid: str
    """The Job's."""
    pod: str
    container: str
    instance: int = 0
    """How often the container was restarted before this instance."""

    @property
    def source(self) -> str:
        return f"{self.pod}/{self.container}"

    @property
    def path(self) -> str:
        """`namespace/job/uid/pod/container.instance.log`. Names that Kubernetes allows appear unchanged."""
        parts = [_safe(part) for part in (self.namespace, self.job, self.uid, self.pod, self.container)]
        return f"{'/'.join(parts)}.{self.instance}.log"


def _safe(part: str) -> str:
    if _SAFE.fullmatch(part) and len(part) <= _LONGEST_PART:
        return part
    # The hash keeps the places of different names different, although the same characters replace theirs.
    digest = hashlib.sha256(part.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{_UNSAFE.sub('_', part)[:_LONGEST_PART].strip('.')}_{digest}"


class LogStoreError(Exception):
    """A log could not be stored or read. `str()` is one readable line without secrets."""

    def __init__(self, reason: str, line: str) -> None:
        super().__init__(line)
        self.reason = reason
        """UNAVAILABLE or REFUSED: an event's `log.reason`."""


class Stored(NamedTuple):
    """A log in a store."""

    ref: str
    """Where it is: an event's `log.ref`."""
    bytes: int
    """The bytes in the store: fewer than the log has where the store has a limit."""


class Upload(Protocol):
    """One log on its way into a store. For one task."""

    async def write(self, chunk: bytes) -> None:
        """Add to the log. May wait for the store, so that memory stays bounded. Raises LogStoreError."""
        ...

    async def commit(self) -> Stored:
        """Make the whole log visible at once. Raises LogStoreError.

        A log of the same place that is in the store already and is at least as long stays, and is returned.
        """
        ...

    async def abort(self, because: LogStoreError | None = None) -> None:
        """Give the upload up, also after a write or commit that failed. Does not wait for the store, never raises.

        `because` is why the caller stopped waiting for the store: other uploads may then be rejected without a wait.
        """
        ...


class LogStore(Protocol):
    """For many tasks of one event loop."""

    def new_upload(self, place: LogPlace) -> Upload:
        """Does no I/O."""
        ...

    async def aclose(self) -> None:
        """Waits a few seconds at most for clean-up that is under way."""
        ...
