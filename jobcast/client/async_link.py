"""Performs the effects of an operation with redis-py, for asyncio."""

import asyncio
from typing import Any

import redis
import redis.asyncio

from jobcast.client.effects import (
    Call,
    Chunk,
    Effect,
    Give,
    Listen,
    Open,
    Pause,
    Ping,
    Pipeline,
    Ready,
    Subscribe,
    options,
)
from jobcast.logstore.fetch import read_object_async

CANCEL_SECONDS = 0.05
"""Cancel again after so long: redis-py may swallow a cancellation."""


class Link:
    """Performs effects over a client's connection pool, with its own subscription."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._client: Any = client  # redis-py's own types stop at execute_command
        self._pubsub: Any = None
        self._object: Any = None
        self._doing: asyncio.Task[Any] | None = None
        self._is_closed = False

    async def answer(self, effect: Effect) -> Any:
        """The answer to an effect. A caller that was cancelled may call again for the same answer: nothing is lost or repeated.

        Hence the task. It also keeps the caller's cancellation out of redis-py, which may swallow it on Python 3.11
        (asyncio.wait_for, when its task ends at the same moment).
        """
        if self._doing is None:
            self._doing = asyncio.create_task(self._perform(effect), name="jobcast client")
        doing = self._doing
        await asyncio.wait([doing])
        if self._is_closed:
            raise redis.ConnectionError("closed")
        self._doing = None
        return doing.result()

    async def close(self) -> None:
        self._is_closed = True
        doing = self._doing
        while doing is not None and not doing.done():
            doing.cancel()
            await asyncio.wait([doing], timeout=CANCEL_SECONDS)
        if doing is not None and not doing.cancelled():
            doing.exception()  # it failed before it was cancelled; the error no longer matters
        await self._leave()
        await self._close_object()

    async def _close_object(self) -> None:
        opened, self._object = self._object, None
        if opened is not None:
            await opened.aclose()

    async def _leave(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            await pubsub.aclose()

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return await self._client.execute_command(*effect.arguments, **options(effect))
            case Pipeline():
                pipeline = self._client.pipeline(transaction=False)
                for call in effect.calls:
                    pipeline.execute_command(*call.arguments, **options(call))
                return await pipeline.execute(raise_on_error=False)
            case Listen():
                return await self._pubsub.get_message(timeout=effect.seconds)
            case Subscribe():
                await self._leave()
                self._pubsub = self._client.pubsub()
                await self._pubsub.subscribe(*effect.channels)
            case Ping():
                await self._pubsub.ping()
            case Pause():
                await asyncio.sleep(effect.seconds)
            case Open():
                await self._close_object()
                self._object = read_object_async(effect.ref)
            case Chunk():
                return await anext(self._object, None)
            case Ready() | Give():
                pass
        return None
