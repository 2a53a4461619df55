"""URLs and options of brokers for Celery and Kombu, which read less in a URL than we do and ask sentinels differently (ADR 11)."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import redis
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from jobcast.redis.connection import CONNECT_SECONDS, check_options, check_url, connect_plain, parse_url
from jobcast.redis.discovery import Node, SyncDiscoveringConnection, SyncDiscoveringSSLConnection

BROKERS = ("redis", "rediss", "amqp", "amqps", "pyamqp", "sqs", "memory")
"""Schemes of Celery's. Not its `sentinel`, whose URL has no place for the name of the service."""
NOT_FOR_ROUTES = ("memory", "sentinel")
"""Kombu's, too, but one ends with this process, and the other's URL has no place for the name of the service."""
ANSWER_SECONDS = 10.0
"""So late a silent broker is noticed. Kombu's reader waits for a second at a time."""
SENTINEL = "redis-sentinel"
_HANDED_ON = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "client_name", "finder")


@dataclass(frozen=True)
class Broker:
    """As Celery's settings have it."""

    url: str = field(repr=False)
    use_ssl: dict[str, Any] | bool = field(default=False, repr=False)
    """False leaves it to the URL."""
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    """Of the transport."""

    @property
    def is_amqp(self) -> bool:
        return self.url.startswith(("amqp", "pyamqp"))


class SentinelChannel(kombu_redis.Channel):
    """Over connections that find the primary as all of ours do, each time anew. Those of Kombu's sentinel transport read its
    whole list of services, believe the first answer, however often it was wrong, and word the same error differently
    each time."""

    from_transport_options = (*kombu_redis.Channel.from_transport_options, "finder")
    connection_class = SyncDiscoveringConnection
    connection_class_ssl = SyncDiscoveringSSLConnection
    finder: Any

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        kombus = super()._connparams(asynchronous)  # type: ignore[misc] # the stubs lack it
        return {**kombus, "finder": self.finder}


class SentinelTransport(kombu_redis.Transport):
    Channel = SentinelChannel


TRANSPORT_ALIASES[SENTINEL] = f"{__name__}:{SentinelTransport.__name__}"


def of_celery(url: str) -> Broker:
    """What CELERY_BROKER_URL says; what Celery can read is left as it is. Raises ValueError, never repeating a password."""
    return _of(url, BROKERS)


def of_route(url: str) -> Broker:
    """The broker of an existing app: any that Kombu has here. Raises ValueError as `of_celery` does."""
    return _of(url, [name for name in TRANSPORT_ALIASES if name not in (*NOT_FOR_ROUTES, SENTINEL)])


def sending_options(broker: Broker) -> dict[str, Any]:
    """Kombu's transport options for sending only: no endless wait, and no message without the broker's confirmation."""
    if broker.url.startswith("redis"):
        return {
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
            "socket_keepalive": True,
            **broker.options,
        }
    if broker.is_amqp:
        return {"confirm_publish": True, "read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    return {}


def _of(url: str, schemes: Collection[str]) -> Broker:
    if url.startswith(("redis+", "rediss+")):
        if leads_to_a_cluster(check_options(check_url(url))):
            raise ValueError("a cluster cannot be Celery's broker; write for example redis://host:port/db")
        return of_redis(url)
    for one in url.split(";"):  # Celery takes several, to fall back on
        if one.partition("://")[0] not in schemes:
            raise ValueError(
                f"it must be a broker that Celery knows, for example redis://host:port/db ({', '.join(schemes)}),"
                " or redis+sentinel://host:port,host:port/service/db alone"
            )
        if one.startswith("redis"):
            check_url(one)
        _check_transport(one)
    return Broker(url)


def of_redis(url: str) -> Broker:
    """The Redis that a URL of ours leads to, one or behind sentinels, as the broker."""
    pool = connect_plain(url, answer_seconds=ANSWER_SECONDS, socket_keepalive=True).connection_pool
    given = pool.connection_kwargs
    tls = {name: value for name, value in given.items() if name.startswith("ssl_")}
    is_tls = issubclass(pool.connection_class, redis.SSLConnection)
    finder = given["finder"]
    scheme = SENTINEL if finder is not None else "rediss" if is_tls else "redis"
    host, port = finder.nodes[0] if finder is not None else (given["host"], given.get("port", 6379))
    user, password = (quote(given.get(name) or "", safe="") for name in ("username", "password"))
    account = f"{user}:{password}@" if user or password else ""
    return Broker(
        f"{scheme}://{account}{Node(host, port)}/{given.get('db', 0)}",
        # Kombu checks certificates only if asked to.
        {"ssl_cert_reqs": "required", **tls} if is_tls else False,
        {name: given[name] for name in _HANDED_ON if given.get(name) is not None},
    )


def leads_to_a_cluster(url: str) -> bool:
    return parse_url(url).kind == "cluster"


def _check_transport(url: str) -> None:
    try:
        _ = Connection(url).transport
    except ImportError:
        raise ValueError("a library is missing that Celery needs for this broker") from None
    except Exception:  # whatever parsing raises, with the URL in it
        raise ValueError("it does not parse; write for example redis://host:port/db or amqp://host:port") from None
