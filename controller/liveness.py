"""Whether a restart may help: a watch gets no answer for minutes, although the API server answers other requests; or the API
server has refused our credentials for a minute, whatever is asked.

A restart does not help against an API server that is down or denies a permission. It may help when the same server answers another
request at once: then something in this process is stuck. And credentials that are refused although they were read again may be
found anew by a new Pod, or the crash loop shows people that something is wrong.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable

from controller.reflector import WatchStatus
from jobcast.kube import Access, KubeError

UNANSWERED_SECONDS = 300.0
"""A silent watch is given up after 90 s and opened again: this is three of those."""
REFUSED_SECONDS = 60.0
CHECK_SECONDS = 10.0


class Liveness:
    """`run` is a task. `ask` is a request that any API server answers; it is sent only while a watch gets no answer, or our
    credentials are refused."""

    def __init__(
        self, statuses: Callable[[], Iterable[WatchStatus]], ask: Callable[[], Awaitable[object]], access: Access
    ) -> None:
        self._statuses = statuses
        self._ask = ask
        self._access = access
        self.unhealthy_reason: str | None = None
        """What a restart may fix; None while all is well."""

    async def run(self) -> None:
        while True:
            self.unhealthy_reason = await self._check()
            await asyncio.sleep(CHECK_SECONDS)

    async def _check(self) -> str | None:
        if self._access.refused_since is not None:
            # Only another request shows whether they still are: there may be none otherwise for minutes.
            with contextlib.suppress(KubeError):
                await self._ask()
            refused_since = self._access.refused_since
            if refused_since is not None and time.monotonic() - refused_since >= REFUSED_SECONDS:
                return f"cluster: {self._access.refusal}"
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
