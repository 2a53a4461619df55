"""What Celery starts and stops with the worker: its Pool, then ours as ORDER says, then its consumer, and in reverse.

A stop takes no more tasks, reads no more entries and lets the running tasks end, within GRACE_SECONDS. Ours wait for the
Pool, so that its processes are forked before a thread of ours runs.
"""

import asyncio
import logging
import sys
from itertools import pairwise
from typing import Any, NoReturn

from celery import bootsteps, signals
from celery.worker import state
from celery.worker.state import maybe_shutdown
from kombu import Queue

from jobcast import __version__
from jobcast.keys import GROUP
from jobcast.kube import Access, NoCluster
from jobcast.redis.connection import ERRORS, connect_plain, explain, masked
from jobcast.service.http import PortTaken, ThreadServer
from jobcast.service.membership import WORKER, Handler, Member
from jobcast.service.registration import ThreadRegistration, describe
from jobcast.service.settings import EXIT_WRONG_SETTINGS
from worker import metrics, sweep
from worker.app import WorkerApp
from worker.consumer import StreamConsumer, thread_name
from worker.context import WorkerContext, context_of
from worker.handler_target import HandlerTarget, Target
from worker.handlers import HandlerError, check_pool, refuse
from worker.identity import Name, NameTaken
from worker.outcome import Handed, handed
from worker.queues import own_queue
from worker.route_target import route_targets
from worker.shutdown import Grace, end_at_once, shorten_last_words

log = logging.getLogger(__name__)


def install(app: WorkerApp) -> None:
    """Have Celery run them in every worker of this app."""
    app.steps["worker"].update(ORDER)
    app.steps["consumer"].add(BrokerStep)
    shorten_last_words()
    # Weak references to local functions would be gone at once.
    signals.celeryd_after_setup.connect(_check_pool, weak=False)
    signals.celeryd_after_setup.connect(_take_own_queue, weak=False)
    signals.celeryd_after_setup.connect(_introduce, weak=False)
    signals.worker_process_init.connect(app.context.after_fork, weak=False)
    signals.task_revoked.connect(_dead_letter_revoked, weak=False)


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
        probes.check("celery", context.canary.unhealthy_reason)
        probes.need("redis", lambda: redis.error)
        probes.need("broker", lambda: broker.error)
        probes.show("redis", lambda: {"url": masked(context.settings.redis_url), "error": redis.error})
        probes.show("broker", lambda: {"error": broker.error})
        probes.show("handlers", lambda: handlers)
        probes.show("lag", lambda: metrics.stream_lag.now)

    def stop(self, parent: Any) -> None:
        if self._server is not None:
            self._server.stop()


class NameStep(bootsteps.StartStopStep):
    """The worker's name, before anything is done in it."""

    def start(self, parent: Any) -> None:
        def refuse(error: NameTaken) -> None:
            _refuse(parent, f"-n {parent.hostname}: {error}")

        self._name = Name(context_of(parent.app).settings, parent.hostname, refuse)
        self._name.take(glance=maybe_shutdown)
        # Not with the step: the pool's last tasks are done in this name, and end after it.
        signals.worker_shutdown.connect(self._give_back)

    def _give_back(self, **_: Any) -> None:
        self._name.give_back()

    def close(self, parent: Any) -> None:
        self._name.leave()


class ConsumerStep(_Step):
    """The stream's consumers: one for our handlers and the routes on our broker, and one for each other broker. They are
    registered with what they serve."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._consumers: list[StreamConsumer] = []
        self._registration: ThreadRegistration | None = None

    def start(self, parent: Any) -> None:
        context = context_of(parent.app)
        targets = _targets(parent.app, parent.hostname)
        if not any(targets.values()):
            log.warning("no handlers and no routes: every event is acknowledged unread; set HANDLERS or ROUTES")
        self._registration = _registration(context, parent.hostname, targets)
        self._registration.start()
        for group, its_targets in targets.items():
            consumer = StreamConsumer(context, parent.hostname, its_targets, group)
            self._consumers.append(consumer)
            if group == GROUP:
                context.on_task_ended, context.on_connected = consumer.task_ended, consumer.lost_all_but
            name = thread_name(group)
            context.probes.check(name, consumer.unhealthy_reason)
            context.probes.show(name, consumer.status)
            consumer.start()

    def close(self, parent: Any) -> None:
        for consumer in self._consumers:
            consumer.ask_to_stop()

    def stop(self, parent: Any) -> None:
        for consumer in self._consumers:
            consumer.stop(_running())
        if self._registration is not None:
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


ORDER: tuple[Any, ...] = (HttpStep, NameStep, ConsumerStep, SweepStep)
"""In which they start. They stop the other way round: the probes answer until the last."""
for _earlier, _later in pairwise(("celery.worker.components:Pool", *ORDER)):
    _later.requires = (_earlier,)


class BrokerStep(bootsteps.StartStopStep):
    """Of Celery's consumer, which starts its steps anew each time that it connects to its broker, and reads only after that."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        context = context_of(consumer.app)
        context.on_connected(_running())
        context.transport.attach(consumer)
        context.canary.attach(consumer)
        context.broker.mark_up()

    def stop(self, consumer: Any) -> None:
        context = context_of(consumer.app)
        context.transport.detach()
        context.canary.detach()


def _targets(app: WorkerApp, hostname: str) -> dict[str, list[Target]]:
    """By consumer group; of the main one there is always an entry."""
    own = own_queue(app.context.settings.key_prefix, hostname)
    targets: dict[str, list[Target]] = {GROUP: [], **route_targets(app.context)}
    # Behind the routes: when a broker does not take an event, none of its handlers has been given it yet.
    targets[GROUP] += [HandlerTarget(app.context, task, own) for task in app.tasks_of_handlers]
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


def _running() -> frozenset[Handed]:
    return frozenset(handed(request) for request in tuple(state.active_requests))


def _check_pool(instance: Any, **_: Any) -> None:
    try:
        check_pool([task.handler for task in instance.app.tasks_of_handlers], instance.pool_cls.__module__)
    except HandlerError as error:
        refuse(error)


def _take_own_queue(sender: str, instance: Any, **_: Any) -> None:
    name = own_queue(context_of(instance.app).settings.key_prefix, sender)
    instance.app.amqp.queues.select_add(Queue(name, routing_key=name))


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


def _dead_letter_revoked(sender: Any, request: Any, **_: Any) -> None:
    """Somebody revoked a task of ours: it ends with a dead letter, as any other that does not succeed."""
    if not hasattr(sender, "handler"):
        return
    context = context_of(sender.app)
    entry, body = request.args
    try:
        if context.entries().dead_letter(entry, sender.name, event=body, reason="its task was revoked"):
            metrics.dead_letters.inc()
    except ERRORS as error:
        log.warning("redis unreachable, revoked task stays pending", extra={"entry": entry, "error": explain(error)})
    context.on_task_ended(handed(request), False)
