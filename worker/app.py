"""The Celery app: its settings and its tasks. Nothing is connected before Celery starts the worker."""

from typing import Any

from celery import Celery
from kombu import Queue

from jobcast.handlers import Handler, Registry
from jobcast.redis.connection import CONNECT_SECONDS
from worker import metrics
from worker.broker import ANSWER_SECONDS, Broker
from worker.context import WorkerContext
from worker.queues import shared_queue
from worker.settings import WorkerSettings
from worker.tasks import HandlerTask

CELERY_OPTIONS = ("priority", "time_limit", "soft_time_limit")
"""Options of `on(...)` that Celery keeps for us; worker/handler_target.py reads the others."""
HEARTBEAT_SECONDS = 10
"""Of AMQP: a link that is half open is noticed after two of them."""


class WorkerApp(Celery):
    """Celery, with our settings and the tasks of our handlers."""

    context: WorkerContext
    tasks_of_handlers: list[HandlerTask]


def create_app(settings: WorkerSettings, registry: Registry) -> WorkerApp:
    """The app for these settings and handlers."""
    app = WorkerApp("jobcast", backend=settings.celery_result_backend, set_as_current=True)
    app.context = WorkerContext(celery=app, settings=settings)
    app.conf.update(configuration(settings))
    app.tasks_of_handlers = [_task(app, handler, settings.handler_seconds) for handler in registry]
    for task in app.tasks_of_handlers:
        metrics.handler_seconds(task.name)
    queues = {handler.options["queue"] for handler in registry if "queue" in handler.options}
    # A worker that is started without -Q serves every queue that a handler names, and its own.
    app.conf.task_queues = [Queue(name, routing_key=name) for name in sorted({app.conf.task_default_queue, *queues})]
    return app


def configuration(settings: WorkerSettings) -> dict[str, Any]:
    """Celery's settings, with the reason of each that is not plain."""
    prefix, broker = settings.key_prefix, settings.broker
    return {
        # Not `broker_url`, before which Celery takes what CELERY_BROKER_URL says, and cannot read all that it may say.
        "broker_read_url": broker.url,
        "broker_write_url": broker.url,
        "broker_use_ssl": broker.use_ssl,
        # JSON alone: a message must never be able to run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_ignore_result": settings.celery_result_backend is None,
        "task_publish_retry": False,  # the delivery retries
        "broker_heartbeat": HEARTBEAT_SECONDS,
        "task_default_queue": shared_queue(prefix),
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_prefetch_count_reduction": False,
        # What a process that died may still have said arrives at once; Celery's 10 seconds are how long its task waits.
        "worker_lost_wait": 1.0,
        "worker_consumer": "worker.celery_consumer:Consumer",
        "worker_hijack_root_logger": False,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": _transport_options(broker, prefix),
    }


def _transport_options(broker: Broker, prefix: str) -> dict[str, Any]:
    if broker.is_amqp:
        return {"confirm_publish": True}  # what is handed over is in the broker
    if not broker.url.startswith("redis"):
        return {}
    return {
        # Other Celery apps on this Redis have their own idea of how long a task may take: do not share these with them.
        "unacked_key": f"{{{prefix}}}:unacked",
        "unacked_index_key": f"{{{prefix}}}:unacked-index",
        "unacked_mutex_key": f"{{{prefix}}}:unacked-mutex",
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "socket_keepalive": True,
        **broker.options,
    }


def _task(app: WorkerApp, handler: Handler, longest: float) -> HandlerTask:
    options = {name: value for name, value in handler.options.items() if name in CELERY_OPTIONS}
    options.setdefault("time_limit", longest or None)
    members = {"name": handler.name, "handler": handler, **options}
    kind = type("HandlerTask", (HandlerTask,), members)
    task = app.register_task(kind())
    assert isinstance(task, HandlerTask)
    return task
