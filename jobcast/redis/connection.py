"""Clients of Redis: their URLs and timeouts, and explanations of errors.

By default redis-py retries for a minute and repeats a command whose reply was lost. These clients fail soon and never
repeat a command: the caller decides, and every step is idempotent.

| URL | connects to |
| --- | --- |
| `redis://[user:password@]host:port/db` | this Redis |
| `redis+sentinel://[user:password@]host:port,host:port/service/db` | the primary that these sentinels name at each connect; \
the account for the sentinels is `?sentinel_username=…&sentinel_password=…` |
| `redis+cluster://[user:password@]host:port,host:port` | the node that has the slot of Jobcast's keys |
| `rediss://`, `rediss+sentinel://`, `rediss+cluster://` | the same with TLS |
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
import redis.asyncio
import redis.connection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobcast.keys import DEFAULT_PREFIX
from jobcast.redis.discovery import (
    ClusterFinder,
    DiscoveringConnection,
    DiscoveringSSLConnection,
    Finder,
    Node,
    SentinelFinder,
    SyncDiscoveringConnection,
    SyncDiscoveringSSLConnection,
    with_code,
)

CONNECT_SECONDS = 2.0
"""A Redis in the same cluster answers a SYN within milliseconds, or after the kernel's first resend, one second later."""
ANSWER_SECONDS = 5.0
"""The longest that a command may take. Blocking reads must block for less."""
MOST_CONNECTIONS = 2**31
"""Each feed and each wait needs a connection. With redis-py's limit of 100 they would block one another."""
SENTINEL_PORT, REDIS_PORT = 26379, 6379
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_EXPECTED = (
    "the URL must be redis://host:port/db, redis+sentinel://host:port,host:port/service/db or"
    " redis+cluster://host:port,host:port (rediss for TLS); in a password write / @ : # as %2F %40 %3A %23"
)
_INVALID_HOST = "the host or port is invalid"
_HOST = re.compile(r"[\w.:%-]+")
_OPTION = re.compile(
    r"username|password|db|client_name|health_check_interval|max_connections|socket_(connect_)?timeout|socket_keepalive"
    r"|ssl_[a-z_]+|sentinel_username|sentinel_password"
)
"""Other options change the form of replies, or retries, on which the clients depend."""

ERRORS = (redis.RedisError, OSError, TimeoutError)
"""What a call can raise when Redis is unreachable, rejects the call, or is not a Redis."""


def check_url(url: str) -> str:
    """The URL itself. Raises ValueError, which says what is wrong and never repeats a password."""
    url = url.strip()  # a Secret made from a file ends with a newline
    if fault := _fault_of(url):
        raise ValueError(f"{fault}; {_EXPECTED}")
    return url


def _fault_of(url: str) -> str | None:
    # No wrong part is repeated: it may belong to a password that contains an unquoted / or @.
    if not url.isprintable() or " " in url:
        return "the URL contains a space or a control character"
    if "#" in url:
        return "the URL contains a #"
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        is_scheme = "://" in url and re.fullmatch("[A-Za-z0-9+.-]*", scheme)
        return f"the scheme {scheme!r} is unknown" if is_scheme else "the scheme is missing"
    parsed = parse_url(url)
    if fault := next(filter(None, map(_fault_of_one, parsed.plain)), None):
        return fault
    if parsed.kind == "sentinel" and not parsed.service:
        return "the name of the service that the sentinels watch is missing"
    if parsed.kind == "cluster" and parsed.database not in ("", "0"):
        return "a cluster has only database 0"
    return None


def _fault_of_one(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return _INVALID_HOST
    if not parts.hostname:
        return "the host is missing"
    if not _is_host(parts.hostname):
        return "the host is not a name or an address"
    database = parts.path.strip("/")
    return None if re.fullmatch("[0-9]{0,9}", database) else "the database is not a number"


class ParsedUrl(NamedTuple):
    """The parts of a URL that `check_url` accepts."""

    kind: str
    """`sentinel`, `cluster`, or empty for one Redis."""
    plain: tuple[str, ...]
    """An ordinary Redis URL for each host."""
    service: str
    database: str


def parse_url(url: str) -> ParsedUrl:
    """Raises ValueError when the URL does not parse."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"{_INVALID_HOST}; {_EXPECTED}") from None
    base, _, kind = parts.scheme.partition("+")
    if not kind:
        return ParsedUrl("", (url,), "", parts.path.strip("/"))
    account, at, hosts = parts.netloc.rpartition("@")
    port = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
    path = parts.path.strip("/")
    service, _, database = path.partition("/") if kind == "sentinel" else ("", "", path)
    query = "&".join(option for option in parts.query.split("&") if not option.startswith("sentinel_"))
    plain = (
        f"{base}://{account}{at}{host if re.search(':[0-9]+$', host) else f'{host}:{port}'}/{database}?{query}"
        for host in hosts.split(",")
    )
    return ParsedUrl(kind, tuple(plain), unquote(service), database)


def check_options(url: str) -> str:
    """The URL itself, which `check_url` accepts. Raises ValueError for an unknown or invalid option after the ?."""
    try:
        if any(not _OPTION.fullmatch(name) for name in parse_qs(urlsplit(url).query, keep_blank_values=True)):
            raise ValueError
        with connect_plain(url) as client:
            # Otherwise redis-py would raise for a wrong value only at the first command.
            client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (TypeError, ValueError, redis.RedisError):
        raise ValueError("an option after the ? is unknown or has an invalid value") from None
    return url


def _is_host(name: str) -> bool:
    try:
        return bool(unquote(name).encode("idna")) and _HOST.fullmatch(unquote(name)) is not None
    except UnicodeError:  # an empty or too long label: the resolver would raise the error at each connect
        return False


def masked(url: str) -> str:
    """The URL without its passwords, for logs and messages. Accepts URLs that do not parse."""
    scheme = re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]*://", url)
    begin = scheme[0] if scheme else ""
    # The last @, because a password may contain an unquoted one: better to hide too much than too little.
    account, at, host = url.removeprefix(begin).rpartition("@")
    if "?" in account:  # the @ may belong to an option's value
        return f"{begin}***"
    user, colon, _ = account.partition(":")
    hidden = f"{begin}{user if begin else ''}:***@{host}" if at and (colon or not begin) else url
    return re.sub(r"([?&][^=&]*password=).*", r"\1***", hidden, flags=re.DOTALL)


def secrets_of(url: str) -> set[str]:
    """The URL's passwords, in every form that a message may contain: as given, plain, quoted, and in JSON."""
    parts = urlsplit(url)
    given = {parts.password or "", *re.findall(r"(?:^|&)[^=&]*password=([^&]*)", parts.query)}
    plain = {unquote(password) for password in given}
    ways = given | plain | {quote(password, safe="") for password in plain}
    escaped = {way for one in ways for way in (json.dumps(one), json.dumps(one, ensure_ascii=False), repr(one))}
    return (ways | {way[1:-1] for way in escaped}) - {""}


def connect(
    url: str, *, prefix: str = DEFAULT_PREFIX, answer_seconds: float = ANSWER_SECONDS, **options: Any
) -> "redis.asyncio.Redis":
    """An asyncio client that fails within seconds and never repeats a command.

    `prefix` is that of the keys: it determines the node of a cluster. If the keys have another one, the first command fails.
    """
    kinds = (DiscoveringConnection, DiscoveringSSLConnection)
    options |= _pool_options(url, prefix, answer_seconds, kinds) | {"retry": AsyncRetry(NoBackoff(), 0)}
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**options))


def connect_plain(
    url: str, *, prefix: str = DEFAULT_PREFIX, answer_seconds: float = ANSWER_SECONDS, **options: Any
) -> "redis.Redis":
    """The same for threads."""
    kinds = (SyncDiscoveringConnection, SyncDiscoveringSSLConnection)
    options |= _pool_options(url, prefix, answer_seconds, kinds) | {"retry": Retry(NoBackoff(), 0)}
    return redis.Redis.from_pool(redis.ConnectionPool(**options))


def _pool_options(url: str, prefix: str, answer_seconds: float, kinds: tuple[type, type]) -> dict[str, Any]:
    """The options of redis-py's pools. `kinds` are the connections without and with TLS."""
    parsed = parse_url(check_url(url))
    given = _parsed(parsed.plain[0])
    is_tls = given.pop("connection_class", None) is not None
    return {
        "socket_timeout": answer_seconds,
        "socket_connect_timeout": CONNECT_SECONDS,
        "max_connections": MOST_CONNECTIONS,
        "finder": _finder(url, parsed, prefix, given),
        "connection_class": kinds[is_tls],
        **given,
    }


def _parsed(url: str) -> dict[str, Any]:
    return dict(redis.connection.parse_url(url))  # type: ignore[no-untyped-call]


def _finder(url: str, parsed: ParsedUrl, prefix: str, given: Mapping[str, Any]) -> Finder | None:
    if not parsed.kind:
        return None
    nodes = [Node(one["host"], one["port"]) for one in map(_parsed, parsed.plain)]
    options = {name: value for name, value in given.items() if name.startswith("ssl_")}
    if parsed.kind == "cluster":
        account = {name: given.get(name) for name in ("username", "password")}
        return ClusterFinder(nodes, options | account, prefix)
    query = parse_qs(urlsplit(url).query)
    account = {name: query.get(f"sentinel_{name}", [None])[0] for name in ("username", "password")}
    return SentinelFinder(nodes, options | account, parsed.service)


def explain(error: BaseException) -> str:
    """One line for an operator: what Redis answered, and what it means where that needs an explanation."""
    text = with_code(error)
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
    "ACL failure": "the account in REDIS_URL lacks a permission",  # within a script
    "LOADING": "Redis is starting",
    "NOREPLICAS": "Redis accepts no writes while its replicas are unreachable",
    "MISCONF": "Redis cannot save to disk and refuses writes",
    "CLUSTERDOWN": "nodes of the cluster are missing",
    "UNBLOCKED": "this Redis is no longer the primary",
    "MOVED": "another node of the cluster has Jobcast's keys",
    "ASK ": "the cluster is moving Jobcast's keys to another node",
    "TRYAGAIN": "the cluster is moving Jobcast's keys to another node",
}
