"""What the client raises, beside ValueError and TimeoutError.

ClientError
├── Unavailable   Redis or the log store did not answer; a retry may help
├── Refused       it rejected the request for good: wrong password, missing permission, key of another type
├── NotKept       only `log`: there is no such log, or its bytes are not kept; the message says why
└── Damaged       only `log`: the stored bytes differ from what was read from the container
"""

import redis

from jobcast.event import Log
from jobcast.redis.connection import explain

_TRANSIENT = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,  # and MOVED, which is a kind of it
)
_TRANSIENT_WORDS = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "MISCONF", "NOREPLICAS", "UNBLOCKED", "BUSY ")
"""Errors that end by themselves or when an operator acts. redis-py has classes for only some of them."""


class ClientError(Exception):
    """A failure of Redis or the log store: one line, without secrets."""


class Unavailable(ClientError):
    """No answer. Only single requests raise it; feeds of events and `wait` retry."""


class Refused(ClientError):
    """Redis rejects this account or this key; a retry does not help."""


class NotKept(ClientError):
    """The bytes of a log are not available; the message says why."""

    def __init__(self, line: str, log: Log | None = None) -> None:
        super().__init__(line)
        self.log = log
        """What is known of that log, or None."""


class Damaged(ClientError):
    """The stored log has another size or hash than what was read, or cannot be decompressed. Some bytes may have been given already."""


def is_refusal(error: Exception) -> bool:
    """Whether Redis rejected the request for good."""
    if isinstance(error, redis.exceptions.AuthenticationError):  # a ConnectionError in redis-py, hence first
        return True
    if not isinstance(error, redis.ResponseError) or isinstance(error, _TRANSIENT):
        return False
    return not str(error).startswith(_TRANSIENT_WORDS)


def to_client_error(error: Exception) -> ClientError:
    """A redis-py error as one of ours."""
    return Refused(explain(error)) if is_refusal(error) else Unavailable(explain(error))
