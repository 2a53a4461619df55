"""A proxy between each process and Redis, so that a fault can hit one of them."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from testbed.faultproxy import FaultProxy

WRITES = (b"EVALSHA", b"XACK", b"XREADGROUP")
"""What a reply is lost to: the ledger's steps, the workers' acknowledgements, and entries on their way to a reader."""


class RedisProxy:
    """All proxies lead to one Redis; while there is none, they refuse connections."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.doors = {name: FaultProxy(None) for name in names}
        self.target: int | None = None

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        for door in self.doors.values():
            await self._stack.enter_async_context(door)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def lead_to(self, port: int | None) -> None:
        """From now on; every open connection is cut."""
        self.target = port
        for door in self.doors.values():
            door.lead_to(port)
        await asyncio.gather(*(door.cut() for door in self.doors.values()))
