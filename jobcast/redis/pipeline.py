"""One connection to Redis, many commands a round trip.

redis-py's own pipeline costs four times as much a command (docs/adr/0003): it looks up a callback for each, packs in
Python and sets a timer for every reply. Here the connection is redis-py's, with its TLS, authentication and parser; the
packing is hiredis', and one timer guards all exchanges.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from jobcast.redis.connection import ANSWER_SECONDS, CONNECT_SECONDS

pack_command: Callable[[tuple[Any, ...]], bytes] | None
try:
    from hiredis import pack_command
except ImportError:  # a subscriber need not have hiredis; controller and worker do
    pack_command = None


class Pipeline:
    """For one task at a time: an exchange has the connection to itself."""

    def __init__(self, client: "redis.asyncio.Redis", *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._client = client
        self._answer_seconds = answer_seconds
        self._connection: Any = None
        self._loop = asyncio.get_running_loop()
        self._started_at = math.inf
        """When the exchange under way began; infinity without one."""
        self._guard = asyncio.create_task(self._watch(), name="redis guard")
        self._is_closed = False

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies, in order, as bytes, integers, lists, None, or the ResponseError that a command got.

        Raises one of jobcast.redis.connection.ERRORS when the exchange as a whole fails; Redis may or may not have executed
        each command then.
        """
        try:
            connection = self._connection or await self._connect()
            self._started_at = self._loop.time()
            await connection.send_packed_command(_pack(connection, commands), check_health=False)
            replies = [await _reply(connection) for _ in commands]
            self._started_at = math.inf
            return replies
        except BaseException:
            # A late reply must not become that of the next exchange.
            await self._drop()
            raise

    async def close(self) -> None:
        """Close the connection and end the guard. An exchange under way fails, and so does any later one."""
        self._is_closed = True
        self._guard.cancel()
        await asyncio.gather(self._guard, return_exceptions=True)
        await self._drop()

    async def _watch(self) -> None:
        """Cut an exchange that takes too long. A timer for each exchange would cost as much as sending it."""
        while True:
            await asyncio.sleep(self._answer_seconds / 5)
            if self._loop.time() - self._started_at > self._answer_seconds:
                await self._drop()

    async def _drop(self) -> None:
        self._started_at = math.inf
        connection, self._connection = self._connection, None
        if connection is not None:
            await _cut(connection)

    async def _connect(self) -> Any:
        connection = self._client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        # With a timeout redis-py wraps every send in wait_for: that costs a task, and in Python 3.11 may swallow a
        # cancellation. The timeout below and the guard are enough.
        connection.socket_timeout = None
        try:
            # Resolving, connecting and authenticating have limits of their own; this one covers all of them.
            async with asyncio.timeout(CONNECT_SECONDS * 2):
                await connection.connect()
            if self._is_closed:  # before or while this connected: nothing else would close the connection
                raise redis.exceptions.ConnectionError("closed")
        except BaseException:
            await _cut(connection)
            raise
        self._connection = connection
        return connection


async def _cut(connection: Any) -> None:
    # Without the abort, a close waits until the other side has read everything, and so does a task that writes.
    if (transport := getattr(connection._writer, "transport", None)) is not None:
        transport.abort()
    await connection.disconnect(nowait=True)


def _pack(connection: Any, commands: Sequence[tuple[Any, ...]]) -> list[bytes]:
    if pack_command is not None:
        return [b"".join(map(pack_command, commands))]
    return [part for command in commands for part in connection.pack_command(*command)]


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True, timeout=math.inf)
    except redis.exceptions.ResponseError as error:
        return error
