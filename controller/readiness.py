"""What the probes and `/statusz` say, from what the parts know of themselves."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from controller.liveness import Liveness
from controller.namespace import NamespaceWatch
from controller.rights import Rights
from controller.selection import Selection
from controller.store import Store
from controller.workqueue import Workqueue
from jobcast import __version__
from jobcast.ledger.ledger import Ledger
from jobcast.redis.connection import masked
from jobcast.service.membership import Membership
from jobcast.service.supervisor import Supervisor


class Readiness:
    """Asked before the parts are there, it says so."""

    def __init__(
        self,
        *,
        stopping: asyncio.Event,
        supervisor: Supervisor,
        scopes: Sequence[NamespaceWatch],
        store: Store,
        queue: Workqueue,
        redis_url: str,
        cluster: str,
    ) -> None:
        self.ledger: Ledger | None = None
        self.hearing: Liveness | None = None
        self.neighbours = Membership()
        self.selection: Selection | None = None
        self.rights: Rights | None = None
        self._stopping = stopping
        self._supervisor = supervisor
        self._scopes = scopes
        self._store = store
        self._queue = queue
        self._redis = masked(redis_url)
        self._cluster = cluster

    def alive(self) -> str | None:
        """What a restart mends; None while nothing needs one.

        An event loop that is stuck says nothing at all: that is for the probe's timeout to notice. Once it can be asked it
        turns again, and a restart would help nobody.
        """
        return self._supervisor.hopeless() or (self.hearing.unhealthy_reason() if self.hearing else None)

    def ready(self) -> str | None:
        """Why what happens now is not published now; None when it is."""
        if self._stopping.is_set():
            return "stopping"
        if self.ledger is None or self.ledger.error is not None:
            return f"redis: {self.ledger.error if self.ledger else 'not connected yet'}"
        for scope in self._scopes:
            for reflector in scope.reflectors:
                if reflector.trouble is not None or not reflector.synced.is_set():
                    where = reflector.namespace or "*"
                    return f"{reflector.resource.name} in {where}: {reflector.trouble or 'not listed yet'}"
        return None if self._scopes else "not started yet"

    def warnings(self) -> list[str]:
        """What is wrong around us. We do our work all the same, so that it makes nothing unready."""
        warning = self.selection.warning if self.selection else None
        missing = self.rights.missing if self.rights else []
        return [*missing, *self.neighbours.misfits, *([warning] if warning else [])]

    def status(self) -> dict[str, Any]:
        """For people."""
        return {
            "ready": self.ready() or "yes",
            "alive": self.alive() or "yes",
            "warnings": self.warnings(),
            "version": __version__,
            "parts": self.neighbours.shown(),
            "redis": {
                "url": self._redis,
                "trouble": self.ledger.error if self.ledger else None,
                "epoch": self.ledger.epoch if self.ledger else None,
                "commands_waiting": self.ledger.waiting if self.ledger else 0,
            },
            "cluster": self._cluster,
            "watches": [
                {
                    "resource": reflector.resource.name,
                    "namespace": reflector.namespace or "*",
                    "trouble": reflector.trouble,
                    "seconds_since_last_byte": round(time.monotonic() - reflector.last_byte, 1),
                }
                for scope in self._scopes
                for reflector in scope.reflectors
            ],
            "jobs": {"open": len(self._store), "ended": self._store.ended_count},
            "queue": len(self._queue),
        }
