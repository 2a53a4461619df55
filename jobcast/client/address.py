"""Where a subscriber's Redis is and under which prefix Jobcast writes there: given, else the environment's, else usual."""

import os
import re
from urllib.parse import urlsplit

from jobcast.keys import DEFAULT_PREFIX, Keys
from jobcast.redis.connection import REDIS_PORT, check_options, check_url, parse_url

DEFAULT_URL = "redis://localhost:6379/0"
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}")


def address(url: str | None) -> str:
    """The URL, checked; `REDIS_URL` for None. Raises ValueError saying what is wrong, never repeating a password."""
    return check_options(check_url(os.environ.get("REDIS_URL", DEFAULT_URL) if url is None else url))


def where(url: str) -> str:
    """Which Redis, for people: hosts and ports, service and database, and nothing of an account."""
    apart = parse_url(url)
    nodes = [urlsplit(one) for one in apart.plain]
    told = [", ".join(f"{node.hostname}:{node.port or REDIS_PORT}" for node in nodes)]
    if apart.service:
        told.append(f"service {apart.service}")
    if apart.database not in ("", "0"):
        told.append(f"database {apart.database}")
    return ", ".join(told)


def names(prefix: str | None) -> Keys:
    """The names under the prefix; `KEY_PREFIX` for None. Raises ValueError."""
    prefix = os.environ.get("KEY_PREFIX", DEFAULT_PREFIX) if prefix is None else prefix
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix[:100]!r} is not a prefix (1 to 64 letters, digits, dots, dashes and underscores)")
    return Keys(prefix)
