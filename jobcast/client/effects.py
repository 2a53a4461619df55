"""What is said to Redis and to log stores, apart from how: a program yields effects, and is sent their answers or thrown their errors.

| effect | answer |
| --- | --- |
| Call | Redis' reply to a command |
| Subscribe | none; the channels' confirmations come as messages. Leaves the former subscription |
| Listen | the next message of the subscription as redis-py gives it, or None after so many seconds |
| Ping | none; asks the subscription's connection for a sign of life |
| Pause | none |
| Open | none; an object of a log store. Leaves the former one |
| Chunk | the next bytes of the open object, or None at its end |
| Ready | none; says that from now on nothing escapes |
| Give | none; an item for whoever iterates. The next answer comes when the next item is asked for |

Programs do no I/O. They read the monotonic clock to know when something is due, never to decide who is newer.
"""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from jobcast.client.errors import is_refusal, told
from jobcast.redis.connection import explain

PAUSE_SECONDS = (0.05, 0.5)
"""First and longest pause while Redis is away: back within half a second, at two attempts a second."""

T = TypeVar("T")
logger = logging.getLogger("jobcast.client")


@dataclass(frozen=True, slots=True)
class Call:
    arguments: tuple[Any, ...]
    is_binary: bool = False
    """The reply is bytes, also where the caller's own client decodes replies."""


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


Effect: TypeAlias = Call | Subscribe | Listen | Ping | Pause | Open | Chunk | Ready | Give
Program: TypeAlias = Generator[Effect, Any, T]
Report: TypeAlias = Callable[[str | None], None]


class Health:
    """How a program fares: what it had to skip, and whether Redis is there."""

    def __init__(self, report: Report) -> None:
        self.malformed = 0
        """Messages or entries that were not events; skipped."""
        self.expired = 0
        """Entries that the stream's retention dropped before they were read; a group only."""
        self.interruptions = 0
        """How often the connection was lost, or could not be made."""
        self.raw = b""
        """The last item given, as it was on the wire."""
        self._report = report
        self._trouble: str | None = None
        self._pause = PAUSE_SECONDS[0]

    def found(self) -> None:
        """Redis answers."""
        self._pause = PAUSE_SECONDS[0]
        self._say(None)

    def lost(self, error: Exception) -> Pause:
        """How long to pause before the next attempt. Raises Refused where no attempt would help."""
        if is_refusal(error):
            raise told(error) from error
        self.interruptions += 1
        self._say(explain(error))
        pause = self._pause
        self._pause = min(pause * 2, PAUSE_SECONDS[1])
        return Pause(pause)

    def _say(self, trouble: str | None) -> None:
        if (trouble is None) != (self._trouble is None):
            self._report(trouble)
        self._trouble = trouble


def options(call: Call) -> dict[str, Any]:
    """What redis-py's execute_command is told beside the arguments."""
    return {"NEVER_DECODE": True} if call.is_binary else {}


def log_trouble(trouble: str | None) -> None:
    """What a client does with trouble unless it is told otherwise: a line in the log."""
    if trouble is None:
        logger.info("redis is back")
    else:
        logger.warning("waiting for redis: %s", trouble)
