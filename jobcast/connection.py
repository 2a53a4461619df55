"""How we talk to Redis: one place for addresses, timeouts and what an operator is told when it fails.

redis-py's defaults keep trying for a minute and repeat a command whose reply was lost. Ours give up soon and never
repeat: who called decides, and every step is idempotent.
"""

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

ERRORS = (redis.RedisError, OSError, TimeoutError)
"""What a call can raise when Redis is away, refuses, or is not Redis."""


def check_url(url: str) -> str:
    """The URL itself. Raises ValueError saying what is wrong with it, never repeating a password."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"scheme {parts.scheme!r}; it must be redis://host:port/db or rediss://host:port/db")
    if not parts.hostname:
        raise ValueError("it has no host; it must be redis://host:port/db")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{error}; it must be redis://host:port/db") from None
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError(f"database {database!r} is not a number; it must be redis://host:port/db")
    return url


def masked(url: str) -> str:
    """The URL without its password, for logs and messages."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:***@{host}").geturl()


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
    text = str(error) or type(error).__name__
    for word, meaning in _MEANINGS.items():
        if word in text:
            return f"{text} ({meaning})"
    return text


_MEANINGS = {
    "OOM": "Redis is full: raise maxmemory or lower the retention",
    "READONLY": "this is a replica: REDIS_URL must lead to the primary",
    "NOAUTH": "REDIS_URL needs a password",
    "WRONGPASS": "the user name or password in REDIS_URL is wrong",
    "NOPERM": "the account in REDIS_URL lacks a permission",
    "LOADING": "Redis is starting",
    "MISCONF": "Redis cannot save to disk and refuses writes",
}
