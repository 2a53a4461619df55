"""Keeps this process registered as a member of its prefix: as a task, or in a thread. Logs conflicts once."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import redis

from jobcast import __version__
from jobcast.kube import Access
from jobcast.ledger.ledger import Ledger
from jobcast.redis.batcher import LedgerError
from jobcast.redis.connection import explain
from jobcast.service.availability import UNREACHABLE
from jobcast.service.membership import EVERY_SECONDS, SCRIPT, Arguments, Handler, Member, Membership, joining, leaving
from jobcast.service.settings import ALL_NAMESPACES, CoreSettings, watched_namespaces
from jobcast.service.threads import Supervised

log = logging.getLogger(__name__)

LEAVE_SECONDS = 1.0
"""For saying that we stop; unsaid, the others notice half a minute later."""


def describe(
    kind: str, name: str, settings: CoreSettings, access: Access | None, handlers: Mapping[str, Handler] = {}
) -> Member:
    """This process. `access` is None where it watches nothing."""
    namespaces = (watched_namespaces(settings, access.namespace) or (ALL_NAMESPACES,)) if access else ()
    return Member(
        kind=kind,
        name=name,
        version=__version__,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        namespaces=namespaces,
        selector=settings.label_selector if access else "",
        cluster=access.cluster if access else "",
        handlers=dict(handlers),
    )


class _Log:
    """What a registration logs, each once."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._rejection = ""

    def update(self, reply: list[bytes]) -> None:
        new, resolved = self._membership.update(reply)
        for conflict in new:
            log.warning("conflicting Jobcast instances share this prefix", extra={"why": conflict})
        for conflict in resolved:
            log.info("conflict between Jobcast instances resolved", extra={"what": conflict})

    def rejected(self, reason: str) -> None:
        if self._rejection != reason:
            self._rejection = reason
            log.warning("redis refuses to register this process", extra={"error": reason})


class AsyncRegistration:
    """`run` is a task; it waits while Redis is down."""

    def __init__(self, ledger: Ledger, member: Member, membership: Membership) -> None:
        self._ledger = ledger
        self._member = member
        self._log = _Log(membership)

    async def run(self) -> None:
        while True:
            try:
                self._log.update(await self._register(joining(self._member)))
            except LedgerError as error:
                self._log.rejected(str(error))
            await asyncio.sleep(EVERY_SECONDS)

    async def leave(self) -> None:
        with contextlib.suppress(TimeoutError, LedgerError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._register(leaving(self._member))

    async def _register(self, arguments: Arguments) -> list[bytes]:
        reply: list[bytes] = await self._ledger.run("EVAL", SCRIPT, 1, self._ledger.keys.parts, *arguments)
        return reply


class ThreadRegistration:
    """Start and stop it with the process. Does not wait for Redis."""

    def __init__(
        self,
        client: "redis.Redis",
        key: str,
        member: Member,
        membership: Membership,
        *,
        complete: Callable[[Member], Member] = lambda member: member,
        restarted: Callable[[str], None] = lambda name: None,
    ) -> None:
        """`client` is closed in the end. `complete` is called in the thread, after the first registration: it may take long."""
        self._client = client
        self._key = key
        self._member = member
        self._complete = complete
        self._log = _Log(membership)
        self._stop = threading.Event()
        self._thread = Supervised("membership", self._run, self._stop, restarted=restarted)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(LEAVE_SECONDS)
        self._register(leaving(self._member))
        self._client.close()

    def _run(self) -> None:
        self._register(joining(self._member))
        self._member = self._complete(self._member)
        while not self._stop.is_set():
            self._register(joining(self._member))
            self._thread.succeeded()
            self._stop.wait(EVERY_SECONDS)

    def _register(self, arguments: Arguments) -> None:
        try:
            self._log.update(self._client.eval(SCRIPT, 1, self._key, *arguments))
        except redis.ResponseError as error:
            self._log.rejected(explain(error))
        except UNREACHABLE as error:
            log.debug("cannot register this process", extra={"error": explain(error)})
