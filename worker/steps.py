"""What Celery starts and stops with the worker: its Pool, then ours as ORDER says, then its consumer, and in reverse.

A stop takes no more tasks, reads no more entries and lets the running tasks end, within GRACE_SECONDS. Ours wait for the
Pool, so that its processes are forked before a thread of ours runs.
"""

import logging
import sys
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.worker import state
from celery.worker.state import maybe_shutdown
from kombu import Queue

from jobcast import __version__
from jobcast.keys import GROUP
from jobcast.redis.connection import masked
from jobcast.service.settings import EXIT_WRONG_SETTINGS
from worker import metrics, sweep
from worker.consumer import StreamConsumer
from worker.handler_target import HandlerTarget
from worker.handlers import HandlerError, check_pool, refuse
from worker.http import PortTaken, Probe
from worker.identity import Name, NameTaken
from worker.neighbourhood import Neighbourhood
from worker.outcome import Handed, handed
from worker.queues import own_queue
from worker.route_target import route_targets
from worker.shutdown import Grace, end_at_once, shorten_last_words

if TYPE_CHECKING:
    from worker.app import WorkerApp

log = logging.getLogger(__name__)


def install(app: "WorkerApp") -> None:
    """Have Celery run them in every worker of this app."""
    app.steps["worker"].update(ORDER)
    app.steps["consumer"].add(BrokerStep)
    shorten_last_words()
    # Weak references to local functions would be gone at once.
    signals.celeryd_after_setup.connect(_check_pool, weak=False)
    signals.celeryd_after_setup.connect(_take_own_queue, weak=False)
    signals.celeryd_after_setup.connect(_introduce, weak=False)
    signals.worker_process_init.connect(app.after_fork, weak=False)
    signals.task_revoked.connect(_tell_revoked, weak=False)


class HttpStep(bootsteps.StartStopStep):
    """Probes and metrics, and the limit of how long a stop may take; last to go."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._probe: Probe | None = None

    def start(self, parent: Any) -> None:
        settings = parent.app.jobcast
        try:
            self._probe = Probe(settings.http_host, settings.worker_http_port)
        except PortTaken as error:
            print(f"WORKER_HTTP_PORT: {error}", file=sys.stderr)  # noqa: T201 - as every other wrong setting is told
            parent.pool.terminate()
            end_at_once(EXIT_WRONG_SETTINGS)  # a SystemExit would be taken for a wish to stop in good order
        parent.app.probe = self._probe
        self._show(parent.app, self._probe)
        self._probe.watch("consumer", parent.app.echo.unhealthy_reason)
        for system in (parent.app.redis, parent.app.broker):
            self._probe.need(system.system, partial(getattr, system, "trouble"))
        # Held here: Celery's signals keep no receiver alive.
        self._grace = Grace(settings.grace_seconds)
        self._grace.install()
        # A process that is forked later must not keep the port.
        signals.worker_process_init.connect(self._probe.close_inherited, weak=False)
        self._probe.start()

    @staticmethod
    def _show(app: "WorkerApp", probe: Probe) -> None:
        settings = app.jobcast
        probe.show("redis", lambda: {"url": masked(settings.redis_url), "trouble": app.redis.trouble})
        probe.show("broker", lambda: {"trouble": app.broker.trouble})
        probe.show("handlers", lambda: [task.name for task in app.tasks_of_handlers])
        probe.show("lag", lambda: metrics.stream_lag.now)

    def stop(self, parent: Any) -> None:
        if self._probe is not None:
            self._probe.stop()

    def terminate(self, parent: Any) -> None:
        self.stop(parent)


class NameStep(bootsteps.StartStopStep):
    """The worker's name, before anything is done in it."""

    def start(self, parent: Any) -> None:
        def refuse(error: NameTaken) -> None:
            print(f"-n {parent.hostname}: {error}", file=sys.stderr)  # noqa: T201 - as every other wrong setting is told
            parent.pool.terminate()
            end_at_once(EXIT_WRONG_SETTINGS)

        self._name = Name(parent.app.jobcast, parent.hostname, refuse)
        self._name.take(glance=maybe_shutdown)
        # Not with the step: the pool's last tasks are done in this name, and end after it.
        signals.worker_shutdown.connect(self._give_back)

    def _give_back(self, **_: Any) -> None:
        self._name.give_back()

    def close(self, parent: Any) -> None:
        self._name.leave()


class NeighbourhoodStep(bootsteps.StartStopStep):
    """Once the name is ours: who else works under our prefix."""

    def start(self, parent: Any) -> None:
        self._neighbourhood = Neighbourhood(parent.app.jobcast, parent.hostname)
        parent.app.probe.neighbours = self._neighbourhood.neighbours
        self._neighbourhood.start()

    def stop(self, parent: Any) -> None:
        self._neighbourhood.stop()

    def terminate(self, parent: Any) -> None:
        self.stop(parent)


class BridgeStep(bootsteps.StartStopStep):
    """The stream's consumers: one for our handlers and the routes on our broker, and one for each other broker."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._bridges: list[StreamConsumer] = []

    def start(self, parent: Any) -> None:
        app: WorkerApp = parent.app
        own = own_queue(app.jobcast.key_prefix, parent.hostname)
        targets = {GROUP: [], **route_targets(app)}
        # Behind the routes: when a broker does not take an event, none of its handlers has been given it yet.
        targets[GROUP] += [HandlerTarget(app, task, own) for task in app.tasks_of_handlers]
        if not any(targets.values()):
            log.warning("no handlers and no routes: every event is acknowledged unread; set HANDLERS or ROUTES")
        for group, its_targets in targets.items():
            bridge = StreamConsumer(app, parent.hostname, its_targets, group)
            self._bridges.append(bridge)
            if group == GROUP:
                app.bridge = bridge
            name = "bridge" if group == GROUP else f"bridge {group}"
            app.probe.watch(name, bridge.unhealthy_reason)
            app.probe.show(name, bridge.status)
            bridge.start()

    def close(self, parent: Any) -> None:
        for bridge in self._bridges:
            bridge.ask_to_stop()

    def stop(self, parent: Any) -> None:
        for bridge in self._bridges:
            bridge.stop(_running())

    def terminate(self, parent: Any) -> None:
        self.stop(parent)


class SweepStep(bootsteps.StartStopStep):
    """The slow poll; on a thread and a loop of its own, so that it goes on when the consumer does not."""

    def start(self, parent: Any) -> None:
        self._sweep = sweep.of(parent.app.jobcast, parent.hostname)
        if self._sweep is not None:
            parent.app.probe.watch("sweep", self._sweep.unhealthy_reason)
            parent.app.probe.need("sweep", self._sweep.refusal)
            parent.app.probe.show("sweep", self._sweep.status)
            self._sweep.start()

    def close(self, parent: Any) -> None:
        if self._sweep is not None:
            self._sweep.ask_to_stop()

    def stop(self, parent: Any) -> None:
        if self._sweep is not None:
            self._sweep.stop()

    def terminate(self, parent: Any) -> None:
        self.stop(parent)


ORDER: tuple[Any, ...] = (HttpStep, NameStep, NeighbourhoodStep, BridgeStep, SweepStep)
"""In which they start. They stop the other way round: the probes answer until the last."""
for _earlier, _later in pairwise(("celery.worker.components:Pool", *ORDER)):
    _later.requires = (_earlier,)


class BrokerStep(bootsteps.StartStopStep):
    """Of Celery's consumer, which starts its steps anew each time the broker was away, and reads only after that."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        if consumer.app.bridge is not None:
            consumer.app.bridge.lost_all_but(_running())
        consumer.app.conveyor.attach(consumer)
        consumer.app.echo.attach(consumer)
        consumer.app.broker.mark_up()

    def stop(self, consumer: Any) -> None:
        consumer.app.conveyor.detach()
        consumer.app.echo.detach()


def _running() -> frozenset[Handed]:
    return frozenset(handed(request) for request in tuple(state.active_requests))


def _check_pool(instance: Any, **_: Any) -> None:
    try:
        check_pool([task.handler for task in instance.app.tasks_of_handlers], instance.pool_cls.__module__)
    except HandlerError as error:
        refuse(error)


def _take_own_queue(sender: str, instance: Any, **_: Any) -> None:
    name = own_queue(instance.app.jobcast.key_prefix, sender)
    instance.app.amqp.queues.select_add(Queue(name, routing_key=name))


def _introduce(sender: str, instance: Any, **_: Any) -> None:
    """What a banner says."""
    app: WorkerApp = instance.app
    log.info(
        "worker starting",
        extra={
            "version": __version__,
            "worker": sender,
            "pool": instance.pool_cls.__module__.rpartition(".")[2],
            "concurrency": instance.concurrency,
            "queues": sorted(app.amqp.queues.consume_from),
            "handlers": [task.name for task in app.tasks_of_handlers],
            "routes": [route.task for route in app.jobcast.every_route],
            "redis": masked(app.jobcast.redis_url),
            "broker": app.connection().as_uri(),
            "http": app.jobcast.worker_http_port,
        },
    )


def _tell_revoked(sender: Any, request: Any, **_: Any) -> None:
    if hasattr(sender, "handler"):
        sender.app.on_revoked(sender.name, request)
