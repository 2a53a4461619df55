"""Notices a LABEL_SELECTOR that selects nothing although there are Jobs: as long as none was seen, it looks for others."""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from controller.namespace import NamespaceWatch
from controller.store import Store
from jobcast.kube import JOBS, Api, KubeError

log = structlog.get_logger()

LOOK_SECONDS = 10.0


class Selection:
    """`run` is a task; it asks nothing any more while the store has Jobs."""

    def __init__(self, api: Api, store: Store, scopes: Sequence[NamespaceWatch], selector: str) -> None:
        self.warning: str | None = None
        self._api = api
        self._store = store
        self._scopes = scopes
        self._selector = selector

    async def run(self) -> None:
        for scope in self._scopes:
            await scope.synced()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            # Refusals are for the reflectors to say, and what was found before may still be so.
            with contextlib.suppress(KubeError):
                self._note(await self._look())

    async def _look(self) -> str | None:
        if len(self._store) or self._store.ended_count:
            return None
        for scope in self._scopes:
            other = await self._api.first(JOBS, scope.jobs.namespace)
            if other is not None:
                return f"LABEL_SELECTOR {self._selector} selects no Job, and there are others, as {other.namespace}/{other.name}"
        return None

    def _note(self, warning: str | None) -> None:
        if warning is not None and self.warning is None:
            log.warning("the selector selects nothing", why=warning)
        elif warning is None and self.warning is not None:
            log.info("the selector selects something")
        self.warning = warning
