"""Redis URL and key prefix: as given, else from the environment, else the default."""

import os
import re
from urllib.parse import urlsplit

from jobcast.keys import DEFAULT_PREFIX, Keys
from jobcast.redis.connection import REDIS_PORT, check_options, check_url, parse_url

DEFAULT_URL = "redis://localhost:6379/0"
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}")


def address(url: str | None) -> str:
    """The URL, checked; `REDIS_URL` for None. Raises ValueError, never with a password in it."""
    return check_options(check_url(os.environ.get("REDIS_URL", DEFAULT_URL) if url is None else url))


def where(url: str) -> str:
    """The Redis for people: hosts and ports, service and database, no account."""
    apart = parse_url(url)
    nodes = [urlsplit(one) for one in apart.plain]
    parts = [", ".join(f"{node.hostname}:{node.port or REDIS_PORT}" for node in nodes)]
    if apart.service:
        parts.append(f"service {apart.service}")
    if apart.database not in ("", "0"):
        parts.append(f"database {apart.database}")
    return ", ".join(parts)


def names(prefix: str | None) -> Keys:
    """The keys under the prefix; `KEY_PREFIX` for None. Raises ValueError."""
    prefix = os.environ.get("KEY_PREFIX", DEFAULT_PREFIX) if prefix is None else prefix
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix[:100]!r} is not a prefix (1 to 64 letters, digits, dots, dashes and underscores)")
    return Keys(prefix)
