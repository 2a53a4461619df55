"""What a subscriber's call can raise beside what Python says by itself (ValueError, TimeoutError), and which is when.

ClientError
├── Unavailable   Redis, or the log store, did not answer; asking again later may help
├── Refused       it answered, and will go on refusing: a wrong password, a missing permission, a foreign key
├── NotKept       of `log` alone: there is no such log, or its bytes are not kept; the message says why
└── Damaged       of `log` alone: what is kept is not what was read from the container
"""

import redis

from jobcast.event import Log
from jobcast.redis.connection import explain

_PASSING = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,  # and MOVED, which is a kind of it
)
_PASSING_WORDS = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "MISCONF", "NOREPLICAS", "UNBLOCKED", "BUSY ")
"""Refusals that end by themselves, or by an operator's hand at Redis: wait. redis-py has a class for some of them only."""


class ClientError(Exception):
    """What went wrong between a subscriber and Redis or the log store, in one line without a secret."""


class Unavailable(ClientError):
    """No answer. Only what asks once raises it; feeds of events and `wait` go on trying."""


class Refused(ClientError):
    """This account or this key will not be served; trying again would not help."""


class NotKept(ClientError):
    """The bytes of a log cannot be had, and why."""

    def __init__(self, line: str, log: Log | None = None) -> None:
        super().__init__(line)
        self.log = log
        """What is known of the log that was meant; None when nothing is."""


class Damaged(ClientError):
    """What is kept is not what was read: of another size or hash, or not readable. Its bytes may have been given already."""


def is_refusal(error: Exception) -> bool:
    """Whether Redis answered with a no that stays."""
    if isinstance(error, redis.exceptions.AuthenticationError):  # a ConnectionError in redis-py, hence first
        return True
    if not isinstance(error, redis.ResponseError) or isinstance(error, _PASSING):
        return False
    return not str(error).startswith(_PASSING_WORDS)


def told(error: Exception) -> ClientError:
    """The error as ours, for whoever asked."""
    return Refused(explain(error)) if is_refusal(error) else Unavailable(explain(error))
