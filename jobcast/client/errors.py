"""What a subscriber's call can raise beside what Python says by itself (ValueError, TimeoutError), and which is when.

ClientError
├── Unavailable   Redis did not answer; asking again later may help
└── Refused       Redis answered, and will go on refusing: a wrong password, a missing permission, a foreign key
"""

import redis

from jobcast.connection import explain

_PASSING = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)
_PASSING_WORDS = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "MISCONF", "NOREPLICAS", "UNBLOCKED", "BUSY ")
"""Refusals that end by themselves, or by an operator's hand at Redis: wait. redis-py has a class for some of them only."""


class ClientError(Exception):
    """What went wrong between a subscriber and Redis, in one line without a secret."""


class Unavailable(ClientError):
    """Redis did not answer. Only what asks once raises it; feeds and `wait` go on trying."""


class Refused(ClientError):
    """Redis will not serve this account or this key; trying again would not help."""


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
