"""Whether a restart may help: a watch gets no answer for minutes, although the API server answers other requests.

A restart does not help against an API server that is down or refuses. It may help when the same server answers another request
at once: then something in this process is stuck.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from controller.reflector import WatchStatus
from jobcast.kube import KubeError

UNANSWERED_SECONDS = 300.0
"""A silent watch is given up after 90 s and opened again: this is three of those."""
CHECK_SECONDS = 10.0


class Liveness:
    """`run` is a task. `ask` is a request that any API server answers; it is sent only while a watch gets no answer."""

    def __init__(self, statuses: Callable[[], Iterable[WatchStatus]], ask: Callable[[], Awaitable[object]]) -> None:
        self._statuses = statuses
        self._ask = ask
        self.unhealthy_reason: str | None = None
        """What a restart may fix; None while all is well."""

    async def run(self) -> None:
        while True:
            self.unhealthy_reason = await self._check()
            await asyncio.sleep(CHECK_SECONDS)

    async def _check(self) -> str | None:
        for status in self._statuses():
            since = status.unanswered_since
            if since is None or time.monotonic() - since < UNANSWERED_SECONDS:
                continue
            try:
                await self._ask()
            except KubeError:
                return None
            return f"{status}: no answer for {UNANSWERED_SECONDS:.0f} s, although the API server answers other requests"
        return None
