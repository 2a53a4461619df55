"""Connections that find the primary: each asks sentinels, or the nodes of a cluster, when it connects.

All of Jobcast's keys share one slot (jobcast.keys), so one node of a cluster at a time has them, and redis-py's ordinary
client suffices. redis-py's cluster client repeats commands whose reply was lost (docs/adr/0011).
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
"""The longest wait for the answer of one sentinel or node: the next one may answer sooner."""
_CODES: dict[type[Exception], str] = {
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.MovedError: "MOVED",  # a subclass of the next one
    redis.exceptions.AskError: "ASK",
    redis.exceptions.MasterDownError: "MASTERDOWN",  # a subclass of the next one
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.NoPermissionError: "NOPERM",
}
_NOT_PRIMARY = ("UNBLOCKED force", "NOREPLICAS", "MOVED", "READONLY", "MASTERDOWN", "CLUSTERDOWN")
"""Errors of a node that is not the primary, or that has lost its replicas or its cluster. A primary that is demoted sends the
first to a blocked reader."""

ConnectionT = TypeVar("ConnectionT", redis.Connection, redis.asyncio.Connection)


class Node(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Finder:
    """Asks nodes for the primary. A node that fails, or names a wrong primary, is asked last the next time.

    For tasks and for threads. `options` are for redis-py's connections to the nodes: TLS and account.
    """

    command: tuple[str, ...]
    target: str
    """What the finder looks for, for error messages."""

    def __init__(self, nodes: Sequence[Node], options: Mapping[str, Any]) -> None:
        self.nodes = tuple(nodes)
        """In the order in which the finder asks them."""
        self._options = {"socket_timeout": ASK_SECONDS, "socket_connect_timeout": ASK_SECONDS, **options}

    def parse_reply(self, reply: Any, asked: Node) -> Node | None:
        """The primary; None when the node that was asked does not know it."""
        raise NotImplementedError

    def note_redirect(self, error: Exception) -> None:
        """Use what a node's error says about the primary."""

    def report_failure(self, asked: Node) -> None:
        """Ask this node last from now on: it failed, or named a wrong primary."""
        self.nodes = (*(node for node in self.nodes if node != asked), asked)

    def connection(self, kind: type[ConnectionT], node: Node) -> ConnectionT:
        """A connection to a node that is asked."""
        return kind(**{**self._options, "host": node.host, "port": node.port})

    async def find_async(self, kind: type[redis.asyncio.Connection]) -> tuple[Node, Node]:
        """The primary, and the node that named it. Raises ConnectionError when none does."""
        failure: Exception | None = None
        for node in self.nodes:
            connection = self.connection(kind, node)
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    await connection.connect()  # type: ignore[no-untyped-call]
                    await connection.send_command(*self.command)
                    found = self.parse_reply(await connection.read_response(disable_decoding=True), node)
            except (redis.RedisError, OSError) as error:
                failure, found = error, None
            finally:
                await connection.disconnect(nowait=True)
            if found is not None:
                return found, node
            self.report_failure(node)
        raise self._unknown(failure)

    def find(self, kind: type[redis.Connection]) -> tuple[Node, Node]:
        """The same for threads."""
        failure: Exception | None = None
        for node in self.nodes:
            connection = self.connection(kind, node)
            try:
                connection.connect()  # type: ignore[no-untyped-call]
                connection.send_command(*self.command)  # type: ignore[no-untyped-call]
                found = self.parse_reply(connection.read_response(disable_decoding=True), node)
            except (redis.RedisError, OSError) as error:
                failure, found = error, None
            finally:
                connection.disconnect()  # type: ignore[no-untyped-call]
            if found is not None:
                return found, node
            self.report_failure(node)
        raise self._unknown(failure)

    def _unknown(self, failure: Exception | None) -> redis.ConnectionError:
        asked = ", ".join(map(str, self.nodes))
        because = f" ({str(failure) or type(failure).__name__})" if failure is not None else ""
        return redis.ConnectionError(f"none of {asked} says where {self.target} is{because}")


class SentinelFinder(Finder):
    """Finds the primary of a service that sentinels watch."""

    def __init__(self, nodes: Sequence[Node], options: Mapping[str, Any], service: str) -> None:
        super().__init__(nodes, options)
        self.command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        self.target = f"the primary of {service!r}"

    def parse_reply(self, reply: Any, asked: Node) -> Node | None:
        return Node(_text(reply[0]), int(reply[1])) if reply else None


class ClusterFinder(Finder):
    """Finds the primary of our slot. It also asks the other nodes of the cluster, as long as the cluster lists them."""

    command = ("CLUSTER", "SLOTS")

    def __init__(self, nodes: Sequence[Node], options: Mapping[str, Any], prefix: str) -> None:
        super().__init__(nodes, options)
        self._given = frozenset(nodes)
        self._slot = key_slot(prefix.encode())

    @property
    def target(self) -> str:  # type: ignore[override]
        return f"slot {self._slot}"

    def parse_reply(self, reply: Any, asked: Node) -> Node | None:
        # A node that does not know its own address leaves it out.
        ranges = [
            (first, last, [Node(_text(node[0]) or asked.host, int(node[1])) for node in nodes])
            for first, last, *nodes in reply
        ]
        named = dict.fromkeys(node for _, _, nodes in ranges for node in nodes)
        kept = [node for node in self.nodes if node in named or node in self._given]
        self.nodes = (*kept, *(node for node in named if node not in kept))
        return next((nodes[0] for first, last, nodes in ranges if first <= self._slot <= last), None)

    def note_redirect(self, error: Exception) -> None:
        if isinstance(error, redis.exceptions.MovedError):
            self._slot = error.slot_id


class _Discovering:
    """What connections for tasks and for threads have in common."""

    def __init__(self, *, finder: Finder | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._finder = finder
        self._found_by: Node | None = None

    def _report(self, error: Exception) -> None:
        if self._finder is not None and self._found_by is not None:
            self._finder.note_redirect(error)
            self._finder.report_failure(self._found_by)


class DiscoveringConnection(_Discovering, redis.asyncio.Connection):
    """A connection to the primary. When the node answers that it is not the primary, the connection is closed and raises
    ConnectionError; the next one finds the primary again. Without a finder, the host of the URL is the primary."""

    base: type[redis.asyncio.Connection] = redis.asyncio.Connection

    async def _connect(self) -> None:
        if self._finder is not None:
            (self.host, self.port), self._found_by = await self._finder.find_async(self.base)
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except Exception as error:
            self._report(error)
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)
        except redis.ResponseError as error:
            if not is_not_primary(error):
                raise
            self._report(error)
            await self.disconnect(nowait=True)
            raise redis.ConnectionError(with_code(error)) from error


class DiscoveringSSLConnection(DiscoveringConnection, redis.asyncio.SSLConnection):
    base = redis.asyncio.SSLConnection


class SyncDiscoveringConnection(_Discovering, redis.Connection):
    """The same for threads."""

    base: type[redis.Connection] = redis.Connection

    def _connect(self) -> Any:
        if self._finder is not None:
            (self.host, self.port), self._found_by = self._finder.find(self.base)
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        except Exception as error:
            self._report(error)
            raise

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)
        except redis.ResponseError as error:
            if not is_not_primary(error):
                raise
            self._report(error)
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(with_code(error)) from error


class SyncDiscoveringSSLConnection(SyncDiscoveringConnection, redis.SSLConnection):
    base = redis.SSLConnection


def is_not_primary(error: redis.ResponseError) -> bool:
    return with_code(error).startswith(_NOT_PRIMARY)


def with_code(error: BaseException) -> str:
    """The error's text, with Redis' code: redis-py removes it from errors that it has a class for."""
    text = str(error) or type(error).__name__
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), "")
    if isinstance(error, redis.AuthenticationError):
        code = "WRONGPASS" if "invalid" in text else "NOAUTH"
    return text if text.startswith(code) else f"{code} {text}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
