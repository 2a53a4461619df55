"""What the probes and `/statusz` answer."""

import asyncio
import time

from controller.checks import Checks
from controller.liveness import Liveness
from controller.mirror import Mirror
from jobcast.kube import Access
from jobcast.ledger.ledger import Ledger
from jobcast.redis.connection import masked
from jobcast.service.probes import Probes
from jobcast.service.supervisor import Supervisor

REFUSED_SECONDS = 10.0
"""How long credentials may be refused before it is said: one 401 is normal where a token has expired, and its renewal helps."""


class Readiness:
    """Can be asked from the first moment; what has not started yet is the reason for not being ready."""

    def __init__(
        self, stopping: asyncio.Event, supervisor: Supervisor, mirror: Mirror, *, redis_url: str, access: Access
    ) -> None:
        self.ledger: Ledger | None = None
        self.liveness: Liveness | None = None
        self.checks: Checks | None = None
        self._stopping = stopping
        self._supervisor = supervisor
        self._mirror = mirror
        self._redis = masked(redis_url)
        self._access = access

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
        since = self._access.refused_since
        if since is not None and time.monotonic() - since > REFUSED_SECONDS:
            return f"cluster: {self._access.refusal}"
        reasons = (status.unhealthy_reason for status in self._mirror.statuses)
        return next(filter(None, reasons), None if self._mirror.watches else "not started yet")

    def install(self, probes: Probes) -> None:
        """Have the probes ask all of this."""
        store, queue = self._mirror.store, self._mirror.queue
        probes.check("", self.alive)
        probes.need("", self.ready)
        probes.warn(lambda: self.checks.warnings() if self.checks else [])
        probes.show("redis", self._show_redis)
        probes.show("cluster", lambda: self._access.host)
        probes.show("watches", self._show_watches)
        probes.show("jobs", lambda: {"open": len(store), "ended": store.ended_count})
        probes.show("queue", lambda: len(queue))

    def _show_redis(self) -> dict[str, object]:
        return {
            "url": self._redis,
            "error": self.ledger.error if self.ledger else None,
            "epoch": self.ledger.epoch if self.ledger else None,
            "commands_waiting": self.ledger.waiting if self.ledger else 0,
        }

    def _show_watches(self) -> list[dict[str, object]]:
        return [
            {
                "resource": status.resource,
                "namespace": status.namespace,
                "error": status.error,
                "seconds_since_last_byte": round(status.age, 1),
            }
            for status in self._mirror.statuses
        ]
