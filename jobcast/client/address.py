"""Where a subscriber's Redis is and under which prefix Jobcast writes there: given, else the environment's, else usual."""

import os
import re
from urllib.parse import urlsplit

import redis

from jobcast.connection import check_url, connect_plain
from jobcast.keys import DEFAULT_PREFIX, Keys

DEFAULT_URL = "redis://localhost:6379/0"
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}")


def address(url: str | None) -> str:
    """The URL, checked; `REDIS_URL` for None. Raises ValueError saying what is wrong, never repeating a password."""
    url = check_url(os.environ.get("REDIS_URL", DEFAULT_URL) if url is None else url)
    try:
        with connect_plain(url) as client:
            # An option after the ? that redis-py does not know would show itself at the first command only.
            client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (TypeError, ValueError, redis.RedisError):
        raise ValueError("an option after the ? is unknown or has a wrong value") from None
    return url


def where(url: str) -> str:
    """Which Redis, for people: host, port and database, and nothing of an account."""
    parts = urlsplit(url)
    database = parts.path.strip("/")
    return f"{parts.hostname}:{parts.port or 6379}" + (f", database {database}" if database not in ("", "0") else "")


def names(prefix: str | None) -> Keys:
    """The names under the prefix; `KEY_PREFIX` for None. Raises ValueError."""
    prefix = os.environ.get("KEY_PREFIX", DEFAULT_PREFIX) if prefix is None else prefix
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix[:100]!r} is not a prefix (1 to 64 letters, digits, dots, dashes and underscores)")
    return Keys(prefix)
