"""What the probes and `/statusz` answer."""

import asyncio
from typing import Any

from controller.checks import Checks
from controller.liveness import Liveness
from controller.mirror import Mirror
from jobcast import __version__
from jobcast.ledger.ledger import Ledger
from jobcast.redis.connection import masked
from jobcast.service.membership import Membership
from jobcast.service.supervisor import Supervisor


class Readiness:
    """Can be asked from the first moment; what has not started yet is the reason for not being ready."""

    def __init__(
        self, stopping: asyncio.Event, supervisor: Supervisor, mirror: Mirror, *, redis_url: str, cluster: str
    ) -> None:
        self.ledger: Ledger | None = None
        self.liveness: Liveness | None = None
        self.neighbours = Membership()
        self.checks: Checks | None = None
        self._stopping = stopping
        self._supervisor = supervisor
        self._mirror = mirror
        self._redis = masked(redis_url)
        self._cluster = cluster

    def alive(self) -> str | None:
        """What a restart may fix; None while all is well.

        A stuck event loop gives no answer at all, and the probe times out. Once it answers again, a restart is of no use.
        """
        return self._supervisor.hopeless() or (self.liveness.unhealthy_reason if self.liveness else None)

    def ready(self) -> str | None:
        """Why current changes are not published; None while they are."""
        if self._stopping.is_set():
            return "stopping"
        if self.ledger is None or self.ledger.error is not None:
            return f"redis: {self.ledger.error if self.ledger else 'not connected yet'}"
        reasons = (status.unhealthy_reason for status in self._mirror.statuses)
        return next(filter(None, reasons), None if self._mirror.watches else "not started yet")

    def warnings(self) -> list[str]:
        """What is wrong with the installation. It does not make this replica unready, because it still does its work."""
        return [*(self.checks.warnings() if self.checks else ()), *self.neighbours.misfits]

    def status(self) -> dict[str, Any]:
        """For people."""
        store = self._mirror.store
        return {
            "ready": self.ready() or "yes",
            "alive": self.alive() or "yes",
            "warnings": self.warnings(),
            "version": __version__,
            "parts": self.neighbours.shown(),
            "redis": {
                "url": self._redis,
                "error": self.ledger.error if self.ledger else None,
                "epoch": self.ledger.epoch if self.ledger else None,
                "commands_waiting": self.ledger.waiting if self.ledger else 0,
            },
            "cluster": self._cluster,
            "watches": [
                {
                    "resource": status.resource,
                    "namespace": status.namespace,
                    "error": status.error,
                    "seconds_since_last_byte": round(status.age, 1),
                }
                for status in self._mirror.statuses
            ],
            "jobs": {"open": len(store), "ended": store.ended_count},
            "queue": len(self._mirror.queue),
        }
