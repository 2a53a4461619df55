"""Whether a restart would let us hear of Jobs again: a watch in vain, although the API server answers.

An API server that is away, or that refuses, is not mended by a restart of ours. A watch that cannot be opened for minutes
while the very same server answers another request at once may be: something of ours is stuck.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from controller.reflector import Reflector
from jobcast.jobs.model import Job, Pod
from jobcast.kube import KubeError

DEAF_SECONDS = 300.0
"""Neither a byte nor an answer for so long. A mute watch is given up after 90 s and asked for again: this is three of those."""
LOOK_SECONDS = 10.0


class Liveness:
    """`run` is a task; `ask` is a request that any API server answers. Both are cheap while all is well: nothing is asked."""

    def __init__(
        self, reflectors: Callable[[], Iterable[Reflector[Job] | Reflector[Pod]]], ask: Callable[[], Awaitable[object]]
    ) -> None:
        self._reflectors = reflectors
        self._ask = ask
        self._unhealthy_reason: str | None = None

    def unhealthy_reason(self) -> str | None:
        """What a restart may mend; None while nothing is."""
        return self._unhealthy_reason

    async def run(self) -> None:
        while True:
            self._unhealthy_reason = await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> str | None:
        for reflector in self._reflectors():
            since = reflector.in_vain_since
            if since is None or time.monotonic() - since < DEAF_SECONDS:
                continue
            try:
                await self._ask()
            except KubeError:
                return None
            where = reflector.namespace or "*"
            return (
                f"{reflector.resource.name} in {where}: no answer for {DEAF_SECONDS:.0f} s, and the API server answers"
            )
        return None
