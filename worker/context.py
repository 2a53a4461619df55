"""What the modules of a worker share. Each is handed it; none knows the app."""

from collections.abc import Callable
from dataclasses import dataclass, field

from celery import Celery

from jobcast.keys import Keys
from jobcast.service.availability import Availability
from jobcast.service.probes import Probes
from worker import metrics
from worker.canary import Canary
from worker.entries import ProcessEntries
from worker.outcome import Handed
from worker.pool_metrics import exposition
from worker.settings import WorkerSettings
from worker.transport import InProcessTransport


def _ignore(*_: object) -> None:
    """What the callbacks do while no stream consumer runs, and in processes of the pool."""


@dataclass(kw_only=True)
class WorkerContext:
    """Of one process."""

    celery: Celery
    settings: WorkerSettings
    entries: ProcessEntries
    canary: Canary
    transport: InProcessTransport = field(default_factory=InProcessTransport)
    probes: Probes = field(default_factory=lambda: Probes(exposition))
    redis: Availability = field(default_factory=lambda: Availability("redis", metrics.redis_up))
    """As the stream consumer finds it."""
    broker: Availability = field(default_factory=lambda: Availability("broker", metrics.broker_up))
    """As Celery's consumer finds it; the same server, unless CELERY_BROKER_URL names another."""
    on_task_ended: Callable[[Handed, bool], object] = _ignore
    """A task of this worker ended, or (true) was lost. Called from any thread."""
    on_connected: Callable[[frozenset[Handed]], object] = _ignore
    """Celery begins to read from its broker. Of the tasks that this worker was given, only these still run."""

    @property
    def keys(self) -> Keys:
        return Keys(self.settings.key_prefix)

    def after_fork(self, **_: object) -> None:
        """In a process of the pool: what was the parent's is not used."""
        self.entries.after_fork()
        self.on_task_ended = self.on_connected = _ignore


def context_of(app: Celery) -> WorkerContext:
    """Of an app that `create_app` made. For classes that Celery makes, and hands only the app."""
    context: WorkerContext = app.context  # type: ignore[attr-defined]
    return context
