"""What the modules of a worker share. Each is handed it; none knows the app."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from jobcast.keys import Keys
from jobcast.service.availability import Availability
from jobcast.service.probes import Probes
from worker import metrics
from worker.pool_metrics import exposition
from worker.settings import WorkerSettings
from worker.transport import InProcessTransport


def _leave(*_: Any) -> None:
    """While nothing is delivered: the broker hands the message out again."""


@dataclass(kw_only=True)
class WorkerContext:
    """Of one process."""

    celery: Celery
    settings: WorkerSettings
    transport: InProcessTransport = field(default_factory=InProcessTransport)
    probes: Probes = field(default_factory=lambda: Probes(exposition))
    redis: Availability = field(default_factory=lambda: Availability("redis", metrics.redis_up))
    """As the delivery finds it."""
    broker: Availability = field(default_factory=lambda: Availability("broker", metrics.broker_up))
    """As Celery's consumer finds it; the same server, unless CELERY_BROKER_URL names another."""
    offer: Callable[[str, str, Callable[[], object]], None] = _leave
    """A message of the broker wants to run an entry's handler here: entry, handler, and what acknowledges the message. Called in
    Celery's thread."""

    @property
    def keys(self) -> Keys:
        return Keys(self.settings.key_prefix)


def context_of(app: Celery) -> WorkerContext:
    """Of an app that `create_app` made. For classes that Celery makes, and hands only the app."""
    context: WorkerContext = app.context  # type: ignore[attr-defined]
    return context
