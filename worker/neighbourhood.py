"""Says in Redis that this worker is there, and notices who works beside it under the same prefix and does not fit."""

import asyncio
import logging
import threading
from datetime import UTC, datetime
from typing import Any

import redis

from jobcast import __version__
from jobcast.keys import Keys
from jobcast.kube import Access, NoCluster
from jobcast.redis.connection import connect_plain, explain
from jobcast.service.availability import UNREACHABLE
from jobcast.service.membership import EVERY_SECONDS, SCRIPT, WORKER, Member, Membership, joining, leaving
from jobcast.service.settings import ALL_NAMESPACES, watched_namespaces
from jobcast.service.threads import Supervised
from worker import metrics
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)

LEAVE_SECONDS = 1.0
"""An exec plugin that hangs as the cluster is looked for is not waited for."""


class Neighbourhood:
    """Start and stop it with the worker. A Redis that is away is not waited for; others say that it is."""

    def __init__(self, settings: WorkerSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._client = connect_plain(settings.redis_url, prefix=settings.key_prefix)
        self._key = Keys(settings.key_prefix).parts
        self.neighbours = Membership()
        self._refusal = ""
        self._part: Member | None = None
        self._stop = threading.Event()
        self._thread = Supervised("neighbourhood", self._run, self._stop, restarted=metrics.task_restarted)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Say that we go; unsaid, it is known half a minute later."""
        self._stop.set()
        self._thread.join(LEAVE_SECONDS)
        if self._part is not None:
            self._say(leaving(self._part))
        self._client.close()

    def _run(self) -> None:
        self._part = asyncio.run(ourselves(self._settings, self._name))
        while not self._stop.is_set():
            self._hear(self._say(joining(self._part)))
            self._thread.is_well()
            self._stop.wait(EVERY_SECONDS)

    def _say(self, arguments: tuple[Any, ...]) -> Any:
        """None where Redis is away, or refuses."""
        try:
            return self._client.eval(SCRIPT, 1, self._key, *arguments)
        except redis.ResponseError as error:
            if self._refusal != (refusal := explain(error)):
                self._refusal = refusal
                log.warning("cannot say that we are here", extra={"error": refusal})
        except UNREACHABLE as error:
            log.debug("cannot say that we are here", extra={"error": explain(error)})
        return None

    def _hear(self, reply: Any) -> None:
        if reply is None:
            return
        wrong, right = self.neighbours.heard(reply)
        for misfit in wrong:
            log.warning("parts do not fit together", extra={"why": misfit})
        for misfit in right:
            log.info("parts fit together again", extra={"what": misfit})


async def ourselves(settings: WorkerSettings, name: str) -> Member:
    """What we look at is known of a worker that sweeps alone, and only where it finds the cluster."""
    namespaces: tuple[str, ...] = ()
    cluster = ""
    if settings.sweep_seconds:
        try:
            access = await Access.find()
        except NoCluster:
            pass  # the sweep says so at each of its turns
        else:
            namespaces = watched_namespaces(settings, access.namespace) or (ALL_NAMESPACES,)
            cluster = access.cluster
    return Member(
        kind=WORKER,
        name=name,
        version=__version__,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        namespaces=namespaces,
        selector=settings.label_selector if namespaces else "",
        cluster=cluster,
    )
