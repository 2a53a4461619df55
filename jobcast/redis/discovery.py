"""Where the primary is: connections that find it by themselves, asking sentinels or the nodes of a cluster each time.

All our keys share one slot (jobcast.keys), so of a cluster, too, one node at a time concerns us, and redis-py's ordinary
client does for everything. Its cluster client repeats commands whose reply was lost (docs/adr/0011).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.connection
from redis.crc import key_slot

ASK_SECONDS = 1.0
"""The longest that one sentinel or node may take to say where the primary is: the next one may know it too."""
_ELSEWHERE: dict[type[redis.ResponseError], str] = {
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.MasterDownError: "MASTERDOWN",  # a kind of the next one
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
}
_ELSEWHERE_WORDS = ("UNBLOCKED force", "NOREPLICAS", *_ELSEWHERE.values())
"""The first is what a blocked reader hears from a primary that is demoted."""


ConnectionT = TypeVar("ConnectionT", redis.Connection, redis.asyncio.Connection)


class Node(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Finder:
    """Asks for the primary. Whoever does not answer, or was wrong, is asked last the next time. For tasks and for threads.

    `options` is what redis-py's connections to those who are asked are told, TLS and account.
    """

    question: tuple[str, ...]
    what: str
    """What is asked for, for people."""

    def __init__(self, nodes: Sequence[Node], options: Mapping[str, Any]) -> None:
        self.nodes = tuple(nodes)
        """In the order in which they are asked."""
        self._options = {"socket_timeout": ASK_SECONDS, "socket_connect_timeout": ASK_SECONDS, **options}

    def read(self, reply: Any, said_by: Node) -> Node | None:
        raise NotImplementedError

    def learn(self, error: Exception) -> None:
        """Whatever the refusal of a node says of the way."""

    def doubt(self, said_by: Node) -> None:
        self.nodes = (*(node for node in self.nodes if node != said_by), said_by)

    def connection(self, kind: type[ConnectionT], node: Node) -> ConnectionT:
        """To one of those who are asked."""
        return kind(**{**self._options, "host": node.host, "port": node.port})

    async def find_async(self, kind: type[redis.asyncio.Connection]) -> tuple[Node, Node]:
        """The primary, and who said so. Raises ConnectionError when nobody does."""
        trouble: Exception | None = None
        for node in self.nodes:
            connection = self.connection(kind, node)
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    await connection.connect()  # type: ignore[no-untyped-call]
                    await connection.send_command(*self.question)
                    found = self.read(await connection.read_response(disable_decoding=True), node)
            except (redis.RedisError, OSError) as error:
                trouble, found = error, None
            finally:
                await connection.disconnect(nowait=True)
            if found is not None:
                return found, node
            self.doubt(node)
        raise self._unknown(trouble)

    def find(self, kind: type[redis.Connection]) -> tuple[Node, Node]:
        """The same for threads."""
        trouble: Exception | None = None
        for node in self.nodes:
            connection = self.connection(kind, node)
            try:
                connection.connect()  # type: ignore[no-untyped-call]
                connection.send_command(*self.question)  # type: ignore[no-untyped-call]
                found = self.read(connection.read_response(disable_decoding=True), node)
            except (redis.RedisError, OSError) as error:
                trouble, found = error, None
            finally:
                connection.disconnect()  # type: ignore[no-untyped-call]
            if found is not None:
                return found, node
            self.doubt(node)
        raise self._unknown(trouble)

    def _unknown(self, trouble: Exception | None) -> redis.ConnectionError:
        asked = ", ".join(map(str, self.nodes))
        because = f" ({str(trouble) or type(trouble).__name__})" if trouble is not None else ""
        return redis.ConnectionError(f"none of {asked} says where {self.what} is{because}")


class SentinelFinder(Finder):
    """The primary of a service that sentinels watch."""

    def __init__(self, nodes: Sequence[Node], options: Mapping[str, Any], service: str) -> None:
        super().__init__(nodes, options)
        self.question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        self.what = f"the primary of {service!r}"

    def read(self, reply: Any, said_by: Node) -> Node | None:
        return Node(_text(reply[0]), int(reply[1])) if reply else None


class ClusterFinder(Finder):
    """The primary of our slot. Nodes that the cluster names are asked as well, as long as it names them."""

    question = ("CLUSTER", "SLOTS")

    def __init__(self, nodes: Sequence[Node], options: Mapping[str, Any], prefix: str) -> None:
        super().__init__(nodes, options)
        self._given = frozenset(nodes)
        self._slot = key_slot(prefix.encode())

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"slot {self._slot}"

    def read(self, reply: Any, said_by: Node) -> Node | None:
        # A node that does not know its own address leaves it out: it is the one that was asked.
        ranges = [
            (first, last, [Node(_text(node[0]) or said_by.host, int(node[1])) for node in nodes])
            for first, last, *nodes in reply
        ]
        named = dict.fromkeys(node for _, _, nodes in ranges for node in nodes)
        kept = [node for node in self.nodes if node in named or node in self._given]
        self.nodes = (*kept, *(node for node in named if node not in kept))
        return next((nodes[0] for first, last, nodes in ranges if first <= self._slot <= last), None)

    def learn(self, error: Exception) -> None:
        if isinstance(error, redis.exceptions.MovedError):
            self._slot = error.slot_id


class FindingConnection(redis.asyncio.Connection):
    """A connection to the primary. It ends, and says so by ConnectionError, when the node says that it is not, or not
    any more: the next one asks again. Without a finder it asks the name service, by connecting."""

    plain: type[redis.asyncio.Connection] = redis.asyncio.Connection

    def __init__(self, *, finder: Finder | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._finder = finder
        self._said_by: Node | None = None

    async def _connect(self) -> None:
        if self._finder is not None:
            (self.host, self.port), self._said_by = await self._finder.find_async(self.plain)
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except Exception as error:
            _doubt(self._finder, self._said_by, error)
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except redis.ResponseError as error:
            if (line := elsewhere(error)) is None:
                raise
            _doubt(self._finder, self._said_by, error)
            await self.disconnect(nowait=True)
            raise redis.ConnectionError(line) from error


class FindingSSLConnection(FindingConnection, redis.asyncio.SSLConnection):
    plain = redis.asyncio.SSLConnection


class PlainFindingConnection(redis.Connection):
    """The same for threads."""

    plain: type[redis.Connection] = redis.Connection

    def __init__(self, *, finder: Finder | None = None, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._finder = finder
        self._said_by: Node | None = None

    def _connect(self) -> Any:
        if self._finder is not None:
            (self.host, self.port), self._said_by = self._finder.find(self.plain)
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        except Exception as error:
            _doubt(self._finder, self._said_by, error)
            raise

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)
        except redis.ResponseError as error:
            if (line := elsewhere(error)) is None:
                raise
            _doubt(self._finder, self._said_by, error)
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(line) from error


class PlainFindingSSLConnection(PlainFindingConnection, redis.SSLConnection):
    plain = redis.SSLConnection


def elsewhere(error: redis.ResponseError) -> str | None:
    """What a node said that is not the primary, or cut off from its replicas or its cluster, with its code; else None."""
    text = str(error)
    for kind, code in _ELSEWHERE.items():
        if isinstance(error, kind):  # redis-py has taken the code off
            return text if text.startswith(code) else f"{code} {text}"
    return text if text.startswith(_ELSEWHERE_WORDS) else None


def _doubt(finder: Finder | None, said_by: Node | None, error: Exception) -> None:
    if finder is not None and said_by is not None:
        finder.learn(error)
        finder.doubt(said_by)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
