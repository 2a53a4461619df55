"""Parts that are started in order and stopped in reverse, all of it within one grace period."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import structlog

log = structlog.get_logger()

LAST_SECONDS = 0.1
"""What a part has to end when the grace period is over: enough to close what it holds, not to wait for anybody."""


class Component(NamedTuple):
    """Something that runs from its start to its stop."""

    name: str
    open: Callable[[], AbstractAsyncContextManager[object]]
    """Entered it has started, left it has stopped. May use what the parts before it have made."""


class Grace:
    """The time from the first request to stop until everything has ended."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None

    def begin(self) -> None:
        self._until = time.monotonic() + self._seconds

    def left(self, *, spare: float = 0.0) -> float:
        """Seconds, `spare` of which are for those who stop later; all of it before it has begun, and never less than 0."""
        return self._seconds if self._until is None else max(0.0, self._until - time.monotonic() - spare)


@asynccontextmanager
async def running(parts: Iterable[Component], grace: Grace) -> AsyncIterator[None]:
    """All of them, started; raises what a part raises at its start, once those before it have ended.

    One that does not end in time is named and left behind, so that those before it can still close what they hold.
    """
    async with AsyncExitStack() as stack:
        for part in parts:
            await stack.enter_async_context(_Bounded(part, grace))
        yield


class _Bounded(AbstractAsyncContextManager[None]):
    """A part whose end takes no longer than the grace period."""

    def __init__(self, part: Component, grace: Grace) -> None:
        self._name = part.name
        self._context = part.open()
        self._grace = grace

    async def __aenter__(self) -> None:
        await self._context.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        # A task, because what swallows its cancellation would hold us too.
        ending = asyncio.create_task(self._end(), name=f"end {self._name}")
        done, _pending = await asyncio.wait([ending], timeout=max(self._grace.left(), LAST_SECONDS))
        if not done:
            log.error("part did not end within the grace period", part=self._name)
            ending.cancel()
            await asyncio.wait([ending], timeout=LAST_SECONDS)

    async def _end(self) -> None:
        try:
            await self._context.__aexit__(None, None, None)
        except Exception:
            log.exception("part failed as it ended", part=self._name)
