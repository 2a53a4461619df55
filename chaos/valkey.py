"""The Redis of a run, or one that takes its place: it keeps what it acknowledged, and is asked without blocking the loop."""

import asyncio
from pathlib import Path

import redis.asyncio

from testbed.valkey import ValkeyServer


class Valkey(ValkeyServer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--repl-diskless-sync-delay", "0", persistent=True)
        self.client: redis.asyncio.Redis = redis.asyncio.Redis(port=self.port, socket_timeout=60)

    async def up(self) -> None:
        """Returns when it answers. Raises NotStarted."""
        await asyncio.to_thread(self.start)

    async def down(self) -> None:
        """Killed."""
        await asyncio.to_thread(self.stop, kill=True)

    async def close(self) -> None:
        await self.client.aclose()
        await self.down()
