"""Says in Redis that we are here, and notices who works beside us under the same prefix and does not fit."""

import asyncio
import contextlib
import socket
from datetime import UTC, datetime
from typing import Any

import structlog

from controller.settings import ControllerSettings
from jobcast import __version__
from jobcast.kube import Access, own_namespace
from jobcast.ledger.ledger import Ledger
from jobcast.redis.batcher import LedgerError
from jobcast.service.membership import CONTROLLER, EVERY_SECONDS, SCRIPT, Member, Membership, joining, leaving
from jobcast.service.settings import ALL_NAMESPACES, watched_namespaces

log = structlog.get_logger()

LEAVE_SECONDS = 1.0
"""For saying that we go; unsaid, it is known half a minute later."""


def ourselves(settings: ControllerSettings, access: Access, identity: str) -> Member:
    """`identity` is our name where we run in no Pod."""
    own = own_namespace()
    return Member(
        kind=CONTROLLER,
        name=identity if own is None else f"{own}/{socket.gethostname()}",
        version=__version__,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        namespaces=watched_namespaces(settings, access.namespace) or (ALL_NAMESPACES,),
        selector=settings.label_selector,
        cluster=access.cluster,
    )


class Neighbourhood:
    """`run` is a task; while Redis is away it waits."""

    def __init__(self, ledger: Ledger, part: Member) -> None:
        self._ledger = ledger
        self._part = part
        self.neighbours = Membership()
        self._refusal = ""

    async def run(self) -> None:
        while True:
            try:
                self._hear(await self._say(joining(self._part)))
            except LedgerError as error:
                if self._refusal != (refusal := str(error)):
                    self._refusal = refusal
                    log.warning("cannot say that we are here", why=refusal)
            await asyncio.sleep(EVERY_SECONDS)

    async def leave(self) -> None:
        with contextlib.suppress(TimeoutError, LedgerError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._say(leaving(self._part))

    async def _say(self, arguments: tuple[Any, ...]) -> Any:
        return await self._ledger.run("EVAL", SCRIPT, 1, self._ledger.keys.parts, *arguments)

    def _hear(self, reply: Any) -> None:
        wrong, right = self.neighbours.heard(reply)
        for misfit in wrong:
            log.warning("parts do not fit together", why=misfit)
        for misfit in right:
            log.info("parts fit together again", what=misfit)
