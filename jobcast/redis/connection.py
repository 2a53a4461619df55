"""How we talk to Redis: one place for addresses, timeouts and what an operator is told when it fails.

redis-py's defaults keep trying for a minute and repeat a command whose reply was lost. Ours give up soon and never
repeat: who called decides, and every step is idempotent.

| URL | leads to |
| --- | --- |
| `redis://[user:password@]host:port/db` | that Redis |
| `redis+sentinel://[user:password@]host:port,host:port/service/db` | the primary that these sentinels name, each time anew; \
the sentinels' own account is given as `?sentinel_username=…&sentinel_password=…` |
| `redis+cluster://[user:password@]host:port,host:port` | the node that has our slot, as these and the others name it |
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
    Finder,
    FindingConnection,
    FindingSSLConnection,
    Node,
    PlainFindingConnection,
    PlainFindingSSLConnection,
    SentinelFinder,
)

CONNECT_SECONDS = 2.0
"""A Redis in the same cluster answers a SYN within milliseconds; twice the kernel's first resend is dead."""
ANSWER_SECONDS = 5.0
"""The longest a command may take. Blocking reads must block for less."""
MOST_CONNECTIONS = 2**31
"""Each feed and each wait has one. redis-py's own limit, 100, would let them keep one another from reading."""
SENTINEL_PORT, REDIS_PORT = 26379, 6379
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_RIGHT = (
    "it must be redis://host:port/db, redis+sentinel://host:port,host:port/service/db or"
    " redis+cluster://host:port,host:port (rediss for TLS), with / @ : # in a password written as %2F %40 %3A %23"
)
_HOST = re.compile(r"[\w.:%-]+")
_OPTION = re.compile(
    r"username|password|db|client_name|health_check_interval|max_connections|socket_(connect_)?timeout|socket_keepalive"
    r"|ssl_[a-z_]+|sentinel_username|sentinel_password"
)
"""Others change how replies look or who tries again, which we rely on."""

ERRORS = (redis.RedisError, OSError, TimeoutError)
"""What a call can raise when Redis is away, refuses, or is not Redis."""


def check_url(url: str) -> str:
    """The URL itself. Raises ValueError saying what is wrong with it, never repeating a password."""
    # What stands at the wrong place may be a piece of a password (one with an unquoted / or @), so none is repeated.
    url = url.strip()  # a Secret made of a file ends with a line end
    if not url.isprintable() or " " in url:
        raise ValueError(f"it has a space or a control character in it; {_RIGHT}")
    if "#" in url:
        raise ValueError(f"it has a # in it; {_RIGHT}")
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        is_scheme = "://" in url and re.fullmatch("[A-Za-z0-9+.-]*", scheme)
        given = repr(scheme) if is_scheme else "missing"
        raise ValueError(f"scheme {given}; {_RIGHT}")
    apart = parse_url(url)
    for one in apart.plain:
        _check_one(one)
    if apart.kind == "sentinel" and not apart.service:
        raise ValueError(f"it has no name of the service that the sentinels watch; {_RIGHT}")
    if apart.kind == "cluster" and apart.database not in ("", "0"):
        raise ValueError(f"a cluster has no database but 0; {_RIGHT}")
    return url


def _check_one(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"host and port do not parse; {_RIGHT}") from None
    if not parts.hostname:
        raise ValueError(f"it has no host; {_RIGHT}")
    if not _is_host(parts.hostname):
        raise ValueError(f"the host is no name and no address; {_RIGHT}")
    database = parts.path.strip("/")
    if database and not re.fullmatch("[0-9]{1,9}", database):
        raise ValueError(f"the database is not a number; {_RIGHT}")


class ParsedUrl(NamedTuple):
    """A URL that `check_url` let pass."""

    kind: str
    """`sentinel`, `cluster`, or nothing for one Redis."""
    plain: tuple[str, ...]
    """The URL as if it led to each of its hosts alone."""
    service: str
    database: str


def parse_url(url: str) -> ParsedUrl:
    """Raises ValueError where nothing can be made of it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"host and port do not parse; {_RIGHT}") from None
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
    """The URL itself, which `check_url` let pass. Raises ValueError for an option after the ? that is not for a URL."""
    try:
        if any(not _OPTION.fullmatch(name) for name in parse_qs(urlsplit(url).query, keep_blank_values=True)):
            raise ValueError
        with connect_plain(url) as client:
            # A value that redis-py does not take would show itself at the first command only.
            client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (TypeError, ValueError, redis.RedisError):
        raise ValueError("an option after the ? is unknown or has a wrong value") from None
    return url


def _is_host(name: str) -> bool:
    try:
        return bool(unquote(name).encode("idna")) and _HOST.fullmatch(unquote(name)) is not None
    except UnicodeError:  # a label that is empty or too long: the resolver would raise it at every connecting
        return False


def masked(url: str) -> str:
    """The URL without its password, for logs and messages; also of one that does not parse."""
    scheme = re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]*://", url)
    begin = scheme[0] if scheme else ""
    # The last @, because a password may contain one unquoted; rather too much is hidden than too little.
    account, at, host = url.removeprefix(begin).rpartition("@")
    if "?" in account:  # the @ may be one of an option's value
        return f"{begin}***"
    user, colon, _ = account.partition(":")
    hidden = f"{begin}{user if begin else ''}:***@{host}" if at and (colon or not begin) else url
    return re.sub(r"([?&][^=&]*password=).*", r"\1***", hidden, flags=re.DOTALL)


def secrets_of(url: str) -> set[str]:
    """The URL's passwords, in every way in which a message may write them: as given, plain, quoted, and in JSON."""
    parts = urlsplit(url)
    given = {parts.password or "", *re.findall(r"(?:^|&)[^=&]*password=([^&]*)", parts.query)}
    plain = {unquote(password) for password in given}
    ways = given | plain | {quote(password, safe="") for password in plain}
    escaped = {way for one in ways for way in (json.dumps(one), json.dumps(one, ensure_ascii=False), repr(one))}
    return (ways | {way[1:-1] for way in escaped}) - {""}


def connect(
    url: str, *, prefix: str = DEFAULT_PREFIX, answer_seconds: float = ANSWER_SECONDS, **options: Any
) -> "redis.asyncio.Redis":
    """An asyncio client that fails within seconds and never repeats a command by itself.

    `prefix` is that of the keys it will be asked for: it says which node of a cluster is the right one. With another
    one than theirs the first command fails.
    """
    told, is_tls = _told(url, prefix, answer_seconds)
    told |= {
        "retry": AsyncRetry(NoBackoff(), 0),
        "connection_class": FindingSSLConnection if is_tls else FindingConnection,
    }
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**{**options, **told}))


def connect_plain(
    url: str, *, prefix: str = DEFAULT_PREFIX, answer_seconds: float = ANSWER_SECONDS, **options: Any
) -> "redis.Redis":
    """The same for threads."""
    told, is_tls = _told(url, prefix, answer_seconds)
    told |= {
        "retry": Retry(NoBackoff(), 0),
        "connection_class": PlainFindingSSLConnection if is_tls else PlainFindingConnection,
    }
    return redis.Redis.from_pool(redis.ConnectionPool(**{**options, **told}))


def _told(url: str, prefix: str, answer_seconds: float) -> tuple[dict[str, Any], bool]:
    """What redis-py's pools are told, and whether it is TLS."""
    apart = parse_url(check_url(url))
    given = _parsed(apart.plain[0])
    is_tls = given.pop("connection_class", None) is not None
    told = {
        "socket_timeout": answer_seconds,
        "socket_connect_timeout": CONNECT_SECONDS,
        "max_connections": MOST_CONNECTIONS,
        "finder": _finder(url, apart, prefix, given),
    }
    return told | given, is_tls


def _parsed(url: str) -> dict[str, Any]:
    return dict(redis.connection.parse_url(url))  # type: ignore[no-untyped-call]


def _finder(url: str, apart: ParsedUrl, prefix: str, given: Mapping[str, Any]) -> Finder | None:
    if not apart.kind:
        return None
    each = map(_parsed, apart.plain)
    nodes = [Node(one["host"], one["port"]) for one in each]
    options = {name: value for name, value in given.items() if name.startswith("ssl_")}
    if apart.kind == "cluster":
        account = {name: given.get(name) for name in ("username", "password")}
        return ClusterFinder(nodes, options | account, prefix)
    asked = parse_qs(urlsplit(url).query)
    account = {name: asked.get(f"sentinel_{name}", [None])[0] for name in ("username", "password")}
    return SentinelFinder(nodes, options | account, apart.service)


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
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.NoPermissionError: "NOPERM",
}
_MEANINGS = {
    "OOM": "Redis is full: raise maxmemory or lower the retention",
    "READONLY": "this is a replica: REDIS_URL must lead to the primary",
    "NOAUTH": "REDIS_URL needs a password",
    "WRONGPASS": "the user name or password in REDIS_URL is wrong",
    "NOPERM": "the account in REDIS_URL lacks a permission",
    "ACL failure": "the account in REDIS_URL lacks a permission",  # within a script
    "LOADING": "Redis is starting",
    "NOREPLICAS": "Redis may not write while its replicas are away",
    "MISCONF": "Redis cannot save to disk and refuses writes",
    "CLUSTERDOWN": "the cluster lacks nodes",
    "UNBLOCKED": "this Redis is not the primary any more",
    "MOVED": "another node of the cluster has our keys",
    "ASK ": "the cluster moves our keys to another node",
    "TRYAGAIN": "the cluster moves our keys to another node",
}
