"""Repeats checks of jobcast.doctor while the controller runs: some faults concern few Jobs, and only later."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence

from controller.mirror import Mirror
from controller.settings import ControllerSettings
from jobcast.doctor import Finding, Verdict
from jobcast.doctor.cluster import Watched, permissions_of, unselected
from jobcast.kube import Access, Api, KubeError
from jobcast.service.membership import CONTROLLER
from jobcast.service.settings import watched_namespaces

log = logging.getLogger(__name__)

FIRST_SECONDS = 5.0
"""Before the first check of permissions. A permission that the reflectors need is reported by them, and at once."""
PERMISSIONS_SECONDS = 20.0
"""Between two checks of permissions in up to ten namespaces. With more of them it is longer in proportion: a few requests a
second."""
SELECTION_SECONDS = 10.0


def watched_by(settings: ControllerSettings, access: Access) -> Watched:
    namespaces = watched_namespaces(settings, access.namespace)
    return Watched(namespaces, settings.label_selector, settings.finalizer, access.namespace)


class Checks:
    """`tasks` are to be run by a supervisor."""

    def __init__(self, api: Api, mirror: Mirror, watched: Watched) -> None:
        self._api = api
        self._mirror = mirror
        self._watched = watched
        self._problems: dict[str, list[Finding]] = {}
        """What each check found last."""
        self.tasks = {"permissions": self._check_permissions, "selection": self._check_selection}

    def warnings(self) -> list[str]:
        """Each with what to do about it."""
        return [problem.line for problems in self._problems.values() for problem in problems]

    async def _check_permissions(self) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            await self._note("permissions", permissions_of(CONTROLLER, self._api, self._watched))
            await asyncio.sleep(PERMISSIONS_SECONDS * max(1.0, len(self._watched.each) / 10))

    async def _check_selection(self) -> None:
        await self._mirror.wait_until_synced()
        while True:
            await asyncio.sleep(SELECTION_SECONDS)
            await self._note("selection", self._unselected())

    async def _unselected(self) -> list[Finding]:
        """Asks the API server nothing while there are selected Jobs."""
        store = self._mirror.store
        return [] if len(store) or store.ended_count else await unselected(self._api, self._watched)

    async def _note(self, check: str, findings: Awaitable[Sequence[Finding]]) -> None:
        try:
            found = await findings
        except KubeError:
            return  # the reflectors report it, and what was found before may still be so
        before = {problem.text for problem in self._problems.get(check, ())}
        problems = self._problems[check] = [one for one in found if one.verdict in (Verdict.WARNING, Verdict.BROKEN)]
        for problem in problems:
            if problem.text not in before:
                log.warning("check failed", extra={"check": check, "why": problem.line})
        if before and not problems:
            log.info("check passed again", extra={"check": check})
