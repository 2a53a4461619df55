"""Notices permissions that this account lacks, one by one: some of them are missed by few Jobs only, and much later."""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from controller.namespace import NamespaceWatch
from jobcast.kube import Api, KubeError, needed
from jobcast.service.membership import CONTROLLER

log = structlog.get_logger()

FIRST_SECONDS = 5.0
"""The reflectors go first: what they may not is published by them, and at once."""
LOOK_SECONDS = 20.0
"""Between two looks, for up to ten namespaces; with more of them as much longer, so that it stays at a few requests a second."""


class Rights:
    """`run` is a task."""

    def __init__(self, api: Api, scopes: Sequence[NamespaceWatch], *, finalizer: bool) -> None:
        self.missing: list[str] = []
        """A line for each namespace, with what to do."""
        self._api = api
        self._scopes = scopes
        self._needed = needed(CONTROLLER, finalizer=finalizer)

    async def run(self) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            # A server that does not answer is for the reflectors to publish of.
            with contextlib.suppress(KubeError):
                self._note(await self._look())
            await asyncio.sleep(LOOK_SECONDS * max(1.0, len(self._scopes) / 10))

    async def _look(self) -> list[str]:
        lines = []
        for scope in self._scopes:
            namespace = scope.jobs.namespace
            missing = await self._api.missing(self._needed, namespace)
            if missing:
                lines.append(f"this account may not {', '.join(map(str, missing))} {_where(namespace)}")
        return lines

    def _note(self, missing: list[str]) -> None:
        for one in missing:
            if one not in self.missing:
                log.warning("a permission is missing", why=one)
        if self.missing and not missing:
            log.info("no permission is missing any more")
        self.missing = missing


def _where(namespace: str | None) -> str:
    return f"in {namespace}: add it to the Role" if namespace else "in all namespaces: add it to the ClusterRole"
