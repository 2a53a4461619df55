"""The client without I/O: an operation yields effects; the caller performs each and sends the answer or throws the error into it.

| effect | answer |
| --- | --- |
| Call | Redis' reply to a command |
| Pipeline | the replies to several commands; where one failed, its error |
| Subscribe | none; each channel's confirmation comes as a message. Ends the former subscription |
| Listen | the next message of the subscription as redis-py gives it, or None after so many seconds |
| Ping | none; checks that the subscription's connection is alive |
| Pause | none |
| Open | none; opens an object of a log store and closes the former one |
| Chunk | the next bytes of the open object, or None at its end |
| Ready | none; from now on no item is missed |
| Give | none; an item for the caller who iterates. The answer comes when the caller asks for the next item |

Operations do no I/O. They read the monotonic clock to know when something is due, never to decide who is newer.
"""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from jobcast.client.errors import is_refusal, to_client_error
from jobcast.redis.connection import explain

PAUSE_SECONDS = (0.05, 0.5)
"""First and longest pause between attempts to reconnect."""

T = TypeVar("T")
logger = logging.getLogger("jobcast.client")


@dataclass(frozen=True, slots=True)
class Call:
    arguments: tuple[Any, ...]
    is_binary: bool = False
    """The reply is bytes, even if the caller's own redis client decodes replies."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Subscribe:
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listen:
    seconds: float


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Open:
    ref: str


@dataclass(frozen=True, slots=True)
class Chunk:
    pass


@dataclass(frozen=True, slots=True)
class Ready:
    pass


@dataclass(frozen=True, slots=True)
class Give:
    item: Any


Effect: TypeAlias = Call | Pipeline | Subscribe | Listen | Ping | Pause | Open | Chunk | Ready | Give
Operation: TypeAlias = Generator[Effect, Any, T]
ConnectionReport: TypeAlias = Callable[[str | None], None]


class FeedState:
    """What an operation skipped, and whether it is connected."""

    def __init__(self, report: ConnectionReport) -> None:
        self.malformed = 0
        """Messages or entries that were not events; skipped."""
        self.expired = 0
        """Entries that the stream's retention deleted before they were read; groups only."""
        self.interruptions = 0
        """How often the connection was lost or could not be opened."""
        self.raw = b""
        """The last item given, exactly as received."""
        self._report = report
        self._error: str | None = None
        self._pause = PAUSE_SECONDS[0]

    def connected(self) -> None:
        """Redis answers."""
        self._pause = PAUSE_SECONDS[0]
        self._report_change(None)

    def disconnected(self, error: Exception) -> Pause:
        """The pause before the next attempt. Raises Refused where a retry cannot help."""
        if is_refusal(error):
            raise to_client_error(error) from error
        self.interruptions += 1
        self._report_change(explain(error))
        pause = self._pause
        self._pause = min(pause * 2, PAUSE_SECONDS[1])
        return Pause(pause)

    def _report_change(self, error: str | None) -> None:
        if (error is None) != (self._error is None):
            self._report(error)
        self._error = error


def options(call: Call) -> dict[str, Any]:
    """Options for redis-py's execute_command."""
    return {"NEVER_DECODE": True} if call.is_binary else {}


def log_connection(error: str | None) -> None:
    """The default report: one log line when the connection is lost, one when it works again."""
    if error is None:
        logger.info("reconnected to redis")
    else:
        logger.warning("redis unreachable, retrying: %s", error)
