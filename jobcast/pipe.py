"""One connection to Redis, many commands a round trip.

redis-py's own pipeline costs four times as much a command (docs/adr/0003): it looks up a callback for each, packs in
Python and sets a timer for every reply. Here the connection is redis-py's, with its TLS, authentication and parser; the
packing is hiredis', and one timer guards the whole exchange.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from jobcast.connection import ANSWER_SECONDS, CONNECT_SECONDS

pack_command: Callable[[tuple[Any, ...]], bytes] | None
try:
    from hiredis import pack_command
except ImportError:  # a subscriber's environment; the deployables bring hiredis
    pack_command = None


class Pipe:
    """For one task at a time: an exchange has the connection to itself."""

    def __init__(self, client: "redis.asyncio.Redis", *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._client = client
        self._answer_seconds = answer_seconds
        self._connection: Any = None

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies, in order, as bytes, integers, lists, None, or the ResponseError that a command got.

        Raises what jobcast.connection.ERRORS names when the exchange as a whole failed; which of the commands were
        carried out is then not known.
        """
        try:
            if self._connection is None:
                # Resolving, connecting and authenticating have limits of their own; the sum of them is ours.
                async with asyncio.timeout(CONNECT_SECONDS * 2):
                    connection = self._client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
                    self._connection = connection
                    await connection.connect()
            async with asyncio.timeout(self._answer_seconds):
                await self._connection.send_packed_command(self._pack(commands), check_health=False)
                return [await self._reply() for _ in commands]
        except BaseException:
            # A reply may still be under way: the next exchange must not take it for its own.
            await self.close()
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def _pack(self, commands: Sequence[tuple[Any, ...]]) -> list[bytes]:
        if pack_command is not None:
            return [b"".join(map(pack_command, commands))]
        return [part for command in commands for part in self._connection.pack_command(*command)]

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(disable_decoding=True, timeout=math.inf)
        except redis.exceptions.ResponseError as error:
            return error
