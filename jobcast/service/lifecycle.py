"""Components that are started in order and stopped in reverse, within one grace period."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple

log = logging.getLogger(__name__)

LAST_SECONDS = 0.1
"""What a component has left to stop when the grace period is over: enough to close what it holds, not to wait."""


class Component(NamedTuple):
    """Something that runs from its start to its stop."""

    name: str
    open: Callable[[], AbstractAsyncContextManager[object]]
    """Entered it has started, left it has stopped. May use what the components before it have made."""


class Grace:
    """The time from the first request to stop until everything has stopped."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None

    def begin(self) -> None:
        self._until = time.monotonic() + self._seconds

    def left(self, *, spare: float = 0.0) -> float:
        """Seconds, without the `spare` ones that later stops need; all of it before it has begun, and never less than 0."""
        return self._seconds if self._until is None else max(0.0, self._until - time.monotonic() - spare)


@asynccontextmanager
async def running(components: Iterable[Component], grace: Grace) -> AsyncIterator[None]:
    """All of them, started. Raises what one raises at its start, once those before it have stopped.

    One that does not stop in time is logged and left behind, so that those before it can still close what they hold.
    """
    async with AsyncExitStack() as stack:
        for component in components:
            await stack.enter_async_context(_Bounded(component, grace))
        yield


class _Bounded(AbstractAsyncContextManager[None]):
    """A component whose stop takes no longer than the grace period."""

    def __init__(self, component: Component, grace: Grace) -> None:
        self._name = component.name
        self._context = component.open()
        self._grace = grace

    async def __aenter__(self) -> None:
        await self._context.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        # A task, because what swallows its cancellation would hold us too.
        stopping = asyncio.create_task(self._stop(), name=f"stop {self._name}")
        done, _pending = await asyncio.wait([stopping], timeout=max(self._grace.left(), LAST_SECONDS))
        if not done:
            log.error("component did not stop within the grace period", extra={"component": self._name})
            stopping.cancel()
            await asyncio.wait([stopping], timeout=LAST_SECONDS)

    async def _stop(self) -> None:
        try:
            await self._context.__aexit__(None, None, None)
        except Exception:
            log.exception("component failed as it stopped", extra={"component": self._name})
