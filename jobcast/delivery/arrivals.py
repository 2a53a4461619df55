"""Waits for new entries, and for what other processes free: one process of a group reads the streams, the others are woken.

A process that waits is told by Redis' channel `wake`, by a new entry, or by itself, when a run of its own ends.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobcast.delivery.store import Store
from jobcast.redis.connection import ERRORS

if TYPE_CHECKING:
    import redis.asyncio

CLAIM_SECONDS = 5.0
"""How long a process that died keeps the others from reading."""
BLOCK_SECONDS = 2.0
"""The longest that Redis waits for an entry: shorter than the claim, and than ANSWER_SECONDS."""
PAUSE_SECONDS = 0.25


class Arrivals:
    """Sets `wake` when there may be something to take, and `may_route` when there may be something to read."""

    def __init__(self, client: "redis.asyncio.Redis", store: Store, process: str) -> None:
        self._client = client
        self._store = store
        self._process = process
        self.wake = asyncio.Event()
        self.may_route = True

    async def listen(self) -> None:
        """Until cancelled: other processes of the group say that something is ready."""
        await self._while_reachable(self._listen)

    async def watch(self) -> None:
        """Until cancelled: wait for new entries, unless another process does."""
        await self._while_reachable(self._watch)

    async def _while_reachable(self, run: Callable[[], Any]) -> None:
        while True:
            with contextlib.suppress(*ERRORS):
                await run()
            # Redis was away: what was said meanwhile was heard by nobody.
            self._arrived()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self) -> None:
        async with self._client.pubsub() as channel:
            await channel.subscribe(self._store.keys.wake(self._store.group))
            async for message in channel.listen():
                if message["type"] == "message":
                    self.wake.set()

    async def _watch(self) -> None:
        behind: dict[Any, Any] = {}
        while True:
            if not await self._claims():
                await asyncio.sleep(CLAIM_SECONDS / 2)
                continue
            if not behind:
                behind = await self._last_ids()
                self._arrived()  # what came before these ids
            found = await self._client.xread(behind, count=1, block=int(BLOCK_SECONDS * 1000))
            if found:
                behind = {}
                self._arrived()

    async def _claims(self) -> bool:
        """Whether this process is the one that waits."""
        key, milliseconds = self._store.keys.arrivals(self._store.group), int(CLAIM_SECONDS * 1000)
        if await self._client.set(key, self._process, nx=True, px=milliseconds):
            return True
        if await self._client.get(key) != self._process.encode():
            return False
        return bool(await self._client.set(key, self._process, xx=True, px=milliseconds))

    async def _last_ids(self) -> dict[Any, Any]:
        infos = [await self._client.xinfo_stream(stream) for stream in self._store.streams]
        return {stream: info["last-generated-id"] for stream, info in zip(self._store.streams, infos, strict=True)}

    def _arrived(self) -> None:
        self.may_route = True
        self.wake.set()
