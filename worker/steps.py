"""What Celery starts and stops with the worker: its Pool, then ours as ORDER says, then its consumer, and in reverse.

A stop begins nothing any more and lets the running tasks end, within GRACE_SECONDS. Ours start after the Pool, so that its
processes are forked before a thread of ours runs; the delivery ends after the Pool, so that it tells how the last tasks ended.
"""

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NoReturn

from celery import bootsteps, signals

from jobcast import __version__
from jobcast.delivery.target import Target
from jobcast.keys import GROUP
from jobcast.kube import Access, NoCluster
from jobcast.redis.connection import connect_plain, masked
from jobcast.service.http import PortTaken, ThreadServer
from jobcast.service.membership import WORKER, Handler, Member
from jobcast.service.registration import ThreadRegistration, describe
from jobcast.service.settings import EXIT_WRONG_SETTINGS
from worker import metrics, sweep
from worker.app import WorkerApp
from worker.context import WorkerContext, context_of
from worker.delivery import Deliveries
from worker.handler_target import HandlerTarget, QueueTarget, is_for_the_broker
from worker.handlers import POOL_WITH_TIME_LIMITS, HandlerError, check_pool, refuse
from worker.route_target import route_targets
from worker.shutdown import Grace, die_with_the_parent, end_at_once, shorten_last_words

log = logging.getLogger(__name__)


def install(app: WorkerApp) -> None:
    """Have Celery run them in every worker of this app."""
    app.steps["worker"].update(ORDER)
    app.steps["consumer"].add(BrokerStep)
    shorten_last_words()
    # Weak references to local functions would be gone at once.
    signals.celeryd_after_setup.connect(_check_pool, weak=False)
    signals.celeryd_after_setup.connect(_introduce, weak=False)
    signals.worker_process_init.connect(die_with_the_parent, weak=False)


class _Step(bootsteps.StartStopStep):
    """Stops alike whether in good order or not."""

    def terminate(self, parent: Any) -> None:
        self.stop(parent)


class HttpStep(_Step):
    """Probes and metrics, and the limit of how long a stop may take; last to stop."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._server: ThreadServer | None = None

    def start(self, parent: Any) -> None:
        context = context_of(parent.app)
        settings = context.settings
        try:
            self._server = ThreadServer(
                settings.http_host, settings.worker_http_port, context.probes, restarted=metrics.task_restarted
            )
        except PortTaken as error:
            _refuse(parent, f"WORKER_HTTP_PORT: {error}")
        self._add_checks(context, [task.name for task in parent.app.tasks_of_handlers])
        # Held here: Celery's signals keep no receiver alive.
        self._grace = Grace(settings.grace_seconds)
        self._grace.install()
        # A process that is forked later must not keep the port.
        signals.worker_process_init.connect(self._server.close_inherited, weak=False)
        self._server.start()

    @staticmethod
    def _add_checks(context: WorkerContext, handlers: list[str]) -> None:
        probes, redis, broker = context.probes, context.redis, context.broker
        probes.need("redis", lambda: redis.error)
        probes.need("broker", lambda: broker.error)
        probes.show("redis", lambda: {"url": masked(context.settings.redis_url), "error": redis.error})
        probes.show("broker", lambda: {"error": broker.error})
        probes.show("handlers", lambda: handlers)
        probes.show("lag", lambda: metrics.stream_lag.now)

    def stop(self, parent: Any) -> None:
        if self._server is not None:
            self._server.stop()


class DeliveryStep(bootsteps.StartStopStep):
    """The delivery of events to handlers and routes, registered with what it serves."""

    def start(self, parent: Any) -> None:
        context = context_of(parent.app)
        targets = _targets(parent.app, parent.pool_cls.__module__)
        self._registration = _registration(context, parent.hostname, targets)
        self._registration.start()
        self._deliveries = Deliveries(context, targets, lambda error: _refuse(parent, str(error)))
        context.offer = self._deliveries.offer
        context.probes.check("delivery", self._deliveries.unhealthy_reason)
        context.probes.show("delivery", self._deliveries.status)
        self._deliveries.start()
        # Not with the step: the pool's last tasks end after it.
        signals.worker_shutdown.connect(self._end)

    def close(self, parent: Any) -> None:
        self._deliveries.drain()

    def _end(self, **_: Any) -> None:
        self._deliveries.stop()
        self._registration.stop()


class SweepStep(_Step):
    """The slow poll; on a thread and a loop of its own, so that it goes on when the consumer does not."""

    def start(self, parent: Any) -> None:
        context = context_of(parent.app)
        self._sweep = sweep.of(context.settings, parent.hostname)
        if self._sweep is not None:
            context.probes.check("sweep", self._sweep.unhealthy_reason)
            context.probes.need("sweep", self._sweep.refusal)
            context.probes.show("sweep", self._sweep.status)
            self._sweep.start()

    def close(self, parent: Any) -> None:
        if self._sweep is not None:
            self._sweep.ask_to_stop()

    def stop(self, parent: Any) -> None:
        if self._sweep is not None:
            self._sweep.stop()


ORDER: tuple[Any, ...] = (HttpStep, DeliveryStep, SweepStep)
"""In which they start. They stop the other way round: the probes answer until the last."""
for _earlier, _later in pairwise(("celery.worker.components:Pool", *ORDER)):
    _later.requires = (_earlier,)


class BrokerStep(bootsteps.StartStopStep):
    """Of Celery's consumer, which starts its steps anew each time that it connects to its broker, and reads only after that."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        context_of(consumer.app).broker.mark_up()

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        context_of(consumer.app).transport.register(hub)


def _targets(app: WorkerApp, pool: str) -> dict[str, list[Target]]:
    """By consumer group; of the main one there is always an entry."""
    context, settings = app.context, app.context.settings
    targets: dict[str, list[Target]] = {GROUP: []}
    for group, routes in route_targets(context).items():
        targets.setdefault(group, []).extend(routes)
    sender = ThreadPoolExecutor(1, "sender")
    for task in app.tasks_of_handlers:
        here = HandlerTarget(
            task, context.transport, longest=settings.handler_seconds, can_kill=pool == POOL_WITH_TIME_LIMITS
        )
        targets[GROUP].append(
            QueueTarget(task, here, settings.key_prefix, sender) if is_for_the_broker(task) else here
        )
    return targets


def _registration(context: WorkerContext, name: str, targets: dict[str, list[Target]]) -> ThreadRegistration:
    settings = context.settings
    handlers = {
        target.name: Handler(tuple(sorted(target.statuses)), group)
        for group, its_targets in targets.items()
        for target in its_targets
    }

    def add_cluster(member: Member) -> Member:
        """A worker that does not sweep watches nothing."""
        if not settings.sweep_seconds:
            return member
        try:
            access = asyncio.run(Access.find())
        except NoCluster:
            return member  # the sweep says so each time
        return describe(WORKER, name, settings, access, handlers)

    return ThreadRegistration(
        connect_plain(settings.redis_url, prefix=settings.key_prefix),
        context.keys.parts,
        describe(WORKER, name, settings, None, handlers),
        context.probes.membership,
        complete=add_cluster,
        restarted=metrics.task_restarted,
    )


def _refuse(parent: Any, line: str) -> NoReturn:
    """End the process as every wrong setting does. A SystemExit would be taken for a wish to stop in good order."""
    print(line, file=sys.stderr)  # noqa: T201 - for the person who started us
    parent.pool.terminate()
    end_at_once(EXIT_WRONG_SETTINGS)


def _check_pool(instance: Any, **_: Any) -> None:
    try:
        check_pool([task.handler for task in instance.app.tasks_of_handlers], instance.pool_cls.__module__)
    except HandlerError as error:
        refuse(error)


def _introduce(sender: str, instance: Any, **_: Any) -> None:
    """What a banner says."""
    app: WorkerApp = instance.app
    settings = app.context.settings
    log.info(
        "worker starting",
        extra={
            "version": __version__,
            "worker": sender,
            "pool": instance.pool_cls.__module__.rpartition(".")[2],
            "concurrency": instance.concurrency,
            "queues": sorted(app.amqp.queues.consume_from),
            "handlers": [task.name for task in app.tasks_of_handlers],
            "routes": [route.task for route in settings.every_route],
            "redis": masked(settings.redis_url),
            "broker": app.connection().as_uri(),
            "http": settings.worker_http_port,
        },
    )
