"""Endless tasks that keep Redis in order: claims, what happened while we were not watching, expiry, and trimming."""

import asyncio
import logging

from controller import metrics
from controller.mirror import Mirror
from controller.namespace import NamespaceWatch
from controller.settings import ControllerSettings
from jobcast.ledger.ledger import CLAIM_SECONDS, Ledger
from jobcast.ledger.trimming import Trimming
from jobcast.reconcile.reconciler import Reconciler
from jobcast.redis.batcher import LedgerError
from jobcast.redis.connection import masked

log = logging.getLogger(__name__)

KEEP_SECONDS = 3600.0
"""How often the expiry of the rows of ended Jobs that still exist is renewed. Retention is a minute at least, and usually a
week."""
TRIM_SECONDS = 30.0
"""How often the stream is trimmed: at 200 events a second it grows by 6,000 in between. Checking takes Redis less than a
millisecond."""
LIST_CHECK_SECONDS = 0.2


class Upkeep:
    """Each method is a task that never ends."""

    def __init__(self, settings: ControllerSettings, ledger: Ledger, reconciler: Reconciler, mirror: Mirror) -> None:
        self._settings = settings
        self._ledger = ledger
        self._reconciler = reconciler
        self._mirror = mirror

    async def renew_claims(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 3)
            await self._reconciler.claims.renew()

    async def enqueue_vanished(self, watch: NamespaceWatch) -> None:
        """After each list: the Jobs that are open in the ledger and not in the list were deleted while we did not watch."""
        while True:
            await watch.wait_until_synced()
            lists = watch.jobs.status.lists
            for uid in await self._ledger.open_uids():
                if self._mirror.store.job(uid) is None:
                    self._mirror.queue.add(uid)
            while watch.jobs.status.lists == lists:
                await asyncio.sleep(LIST_CHECK_SECONDS)

    async def keep_rows(self) -> None:
        while True:
            await asyncio.sleep(min(KEEP_SECONDS, self._settings.retention_seconds / 3))
            await self._ledger.keep(list(self._reconciler.ended_uids()))

    async def trim(self) -> None:
        trimming = Trimming(
            max_age=self._settings.stream_max_seconds,
            max_length=self._settings.stream_max_length,
            died=lambda group: log.warning(
                "consumer group is dead, the stream is trimmed without it", extra={"group": group}
            ),
            revived=lambda group: log.info("consumer group is not dead any more", extra={"group": group}),
        )
        logged = ""
        while True:
            try:
                await trimming.trim(self._ledger)
            except LedgerError as error:
                # A key of another type: a restart would not help, and nothing else depends on it.
                if logged != (logged := str(error)):
                    log.warning("cannot trim stream", extra={"why": logged})
            metrics.dead_groups.set(len(trimming.dead))
            await asyncio.sleep(TRIM_SECONDS)


class RedisLog:
    """Logs when Redis goes down and when it is up again."""

    def __init__(self, url: str) -> None:
        self._url = masked(url)
        self._logged: set[str] = set()
        """The errors since Redis was last up: each is logged once, because they may alternate."""

    def note(self, error: str | None) -> None:
        """`error` is None when Redis is up."""
        metrics.redis_up.set(error is None)
        if error is None:
            self._logged.clear()
            log.info("redis available", extra={"redis": self._url})
        elif error not in self._logged:
            self._logged.add(error)
            log.warning("redis unavailable, retrying", extra={"redis": self._url, "why": error})
