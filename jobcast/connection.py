"""How we talk to Redis: one place for addresses, timeouts and what an operator is told when it fails.

redis-py's defaults keep trying for a minute and repeat a command whose reply was lost. Ours give up soon and never
repeat: who called decides, and every step is idempotent.
"""

import re
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

CONNECT_SECONDS = 2.0
"""A Redis in the same cluster answers a SYN within milliseconds; twice the kernel's first resend is dead."""
ANSWER_SECONDS = 5.0
"""The longest a command may take. Blocking reads must block for less."""
SCHEMES = ("redis", "rediss")
_RIGHT = (
    "it must be redis://host:port/db or rediss://host:port/db, with / @ : # in a password written as %2F %40 %3A %23"
)

ERRORS = (redis.RedisError, OSError, TimeoutError)
"""What a call can raise when Redis is away, refuses, or is not Redis."""


def check_url(url: str) -> str:
    """The URL itself. Raises ValueError saying what is wrong with it, never repeating a password."""
    # What stands at the wrong place may be a piece of a password (one with an unquoted / or @), so none is repeated.
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"host and port do not parse; {_RIGHT}") from None
    if parts.scheme not in SCHEMES:
        given = repr(parts.scheme) if "://" in url else "missing"
        raise ValueError(f"scheme {given}; {_RIGHT}")
    if not parts.hostname:
        raise ValueError(f"it has no host; {_RIGHT}")
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError(f"the database is not a number; {_RIGHT}")
    return url


def masked(url: str) -> str:
    """The URL without its password, for logs and messages; also of one that does not parse."""
    scheme, separator, rest = url.partition("://")
    # The last @, because a password may contain one unquoted; rather too much is hidden than too little.
    account, at, host = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    hidden = f"{scheme}{separator}{user}:***@{host}" if at and colon else url
    return re.sub(r"([?&]password=)[^&#]*", r"\1***", hidden)


def secret_of(url: str) -> str | None:
    password = urlsplit(url).password
    return unquote(password) if password else None


def connect(url: str, *, answer_seconds: float = ANSWER_SECONDS, **options: Any) -> "redis.asyncio.Redis":
    """An asyncio client that fails within seconds and never repeats a command by itself."""
    return redis.asyncio.Redis.from_url(
        check_url(url),
        socket_timeout=answer_seconds,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=AsyncRetry(NoBackoff(), 0),
        **options,
    )


def connect_plain(url: str, *, answer_seconds: float = ANSWER_SECONDS, **options: Any) -> "redis.Redis":
    """The same for threads."""
    return redis.Redis.from_url(
        check_url(url),
        socket_timeout=answer_seconds,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        **options,
    )


def explain(error: BaseException) -> str:
    """One line for an operator: what Redis said, and what it means where that is not plain."""
    text = _with_code(error, str(error) or type(error).__name__)
    for word, meaning in _MEANINGS.items():
        if word in text:
            return f"{text} ({meaning})"
    return text


def _with_code(error: BaseException, text: str) -> str:
    # redis-py takes Redis' code off the errors that it has a class for; an operator looks for the code.
    for kind, code in _CODES.items():
        if isinstance(error, kind) and not text.startswith(code):
            return f"{code} {text}"
    if isinstance(error, redis.AuthenticationError):
        return f"{'WRONGPASS' if 'invalid' in text else 'NOAUTH'} {text}"
    return text


_CODES: dict[type[Exception], str] = {
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.NoPermissionError: "NOPERM",
}
_MEANINGS = {
    "OOM": "Redis is full: raise maxmemory or lower the retention",
    "READONLY": "this is a replica: REDIS_URL must lead to the primary",
    "NOAUTH": "REDIS_URL needs a password",
    "WRONGPASS": "the user name or password in REDIS_URL is wrong",
    "NOPERM": "the account in REDIS_URL lacks a permission",
    "LOADING": "Redis is starting",
    "NOREPLICAS": "Redis may not write while its replicas are away",
    "MISCONF": "Redis cannot save to disk and refuses writes",
}
