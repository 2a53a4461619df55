"""Routes to existing Celery apps: a connection to each broker that routes lead to, and the messages that go over it.

An event counts as handed over when the broker has it: Redis has answered, RabbitMQ has confirmed.
"""

import asyncio
import hashlib
import re
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import msgspec
import redis
from amqp.exceptions import ChannelError, MessageNacked
from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import KombuError

from jobcast.backoff import pause
from jobcast.delivery.target import Delivery, Ended, Place, Refused
from jobcast.redis.connection import CONNECT_SECONDS
from jobcast.service.availability import Availability
from worker import metrics
from worker.broker import ANSWER_SECONDS, Broker, sending_options
from worker.context import WorkerContext
from worker.handler_target import SENDING_POLICY, SENDING_SECONDS
from worker.routes import Route

PAUSE_SECONDS = (0.05, 2.0)
"""First and longest pause while the broker is unreachable: the longest is what an event may wait after it is up again."""
PERSISTENT = 2
"""AMQP's delivery mode of a message that outlives the broker's restart, as Celery sends them."""
NO_ROUTE = 312
"""AMQP's reply code for a queue that is not there."""
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")


class Unreachable(KombuError):
    """The broker does not answer, or accepts nothing for now."""


class RouteBroker:
    """One connection to one broker, for the thread of its executor."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.executor: Executor = ThreadPoolExecutor(1, f"broker {name}")
        up = metrics.route_broker_up.labels(name)
        up.set(1)  # not down until it was tried
        self._availability = Availability(f"broker {name}", up)
        self._connection = Connection(
            broker.url,
            ssl=broker.use_ssl,
            connect_timeout=CONNECT_SECONDS,
            transport_options=sending_options(broker),
        )
        self._producer: Producer | None = None
        self._failures = 0
        self._not_before = 0.0

    @property
    def pause_seconds(self) -> float:
        """How long the broker is better left alone."""
        return max(0.0, self._not_before - time.monotonic())

    def send(self, queue: str, body: Any, **properties: Any) -> None:
        """Returns when the broker has the message. Raises Unreachable and Refused."""
        if self.pause_seconds:
            raise Unreachable(self._availability.error)
        try:
            if self._producer is None:
                # Each address once, and without the seconds that Kombu sleeps between two rounds of them.
                self._connection.ensure_connection(max_retries=max(0, len(self._connection.alt) - 1))
                self._producer = Producer(self._connection.channel(), auto_declare=False)
        except Exception as error:  # whatever a transport raises; none of it is about this message
            raise self._mark_down(error) from error
        try:
            self._producer.publish(
                body,
                # Straight into the queue, whatever exchanges are theirs. It is declared by them, as they like it.
                exchange="",
                routing_key=queue,
                serializer="json",
                delivery_mode=PERSISTENT,
                mandatory=True,
                timeout=ANSWER_SECONDS,
                **properties,
            )
        except Exception as error:
            if self._is_for_good(error):
                self._disconnect()  # AMQP closes the channel with its refusal
                raise Refused(_explained(error, queue)) from error
            raise self._mark_down(error) from error
        self._failures = 0
        self._availability.mark_up()

    def _is_for_good(self, error: Exception) -> bool:
        if isinstance(error, redis.RedisError):
            return str(error).startswith("WRONGTYPE")
        passing = (*self._connection.connection_errors, *self._connection.recoverable_channel_errors, OSError)
        return not isinstance(error, (*passing, MessageNacked))

    def _mark_down(self, error: Exception) -> Unreachable:
        if isinstance(error, MessageNacked):  # it has no text of its own
            error = Unreachable("it rejected a message (nack); a queue may be full")
        self._disconnect()
        self._availability.mark_down(error)
        self._failures += 1
        self._not_before = time.monotonic() + pause(self._failures, PAUSE_SECONDS)
        return Unreachable(self._availability.error)

    def _disconnect(self) -> None:
        self._producer = None
        self._connection.collect()


def _explained(error: Exception, queue: str) -> str:
    if isinstance(error, ChannelError) and error.reply_code == NO_ROUTE:
        return f"the broker has no queue {queue!r}; the app that is to serve it declares it"
    return f"the broker refuses it: {type(error).__name__}: {error}"


class RouteTarget:
    """A task of another app, by name. It ends when the broker has it; how the task ends is not known here."""

    place = Place.ELSEWHERE
    retry = SENDING_POLICY
    time_limit = None
    rate = 0.0

    def __init__(self, celery: Celery, route: Route, broker: RouteBroker) -> None:
        self.name = route.name
        self.statuses = route.filter.statuses
        self.wants = route.filter.wants
        self._route = route
        self._broker = broker
        self._message = celery.amqp.as_task_v2
        self._priority = {} if route.priority is None else {"priority": route.priority}

    async def run(self, delivery: Delivery) -> Ended:
        """Raises Refused, and Unreachable if the broker has taken nothing for SENDING_SECONDS: until then it waits here, so that
        a broker that is down is not tried with one event after the other."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SENDING_SECONDS
        while True:
            try:
                await loop.run_in_executor(self._broker.executor, self._send, delivery)
            except Unreachable:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(self._broker.pause_seconds)
            else:
                return Ended.DONE

    def _send(self, delivery: Delivery) -> None:
        event = delivery.event
        task_id = f"{event.id}:{self._route.task}"
        # The event may be long, and does not belong in a log.
        argument = msgspec.json.decode(delivery.body)
        message = self._message(task_id, self._route.task, args=(argument,), argsrepr=f"({event.id!r}, …)")
        ours = {
            "jobcast_event_id": event.id,
            "jobcast_eval_id": event.eval_id,
            "traceparent": traceparent(event.job.uid, event.id),
        }
        self._broker.send(
            self._route.queue or "celery",
            message.body,
            headers={**message.headers, **ours},
            **message.properties,
            **self._priority,
        )


def route_targets(context: WorkerContext) -> dict[str, list[RouteTarget]]:
    """The targets of all routes by the consumer group that is to send them, each group with a broker of its own."""
    groups: dict[str, list[RouteTarget]] = {}
    brokers: dict[str, RouteBroker] = {}
    for route in context.settings.every_route:
        if route.group not in brokers:
            there = route.elsewhere
            brokers[route.group] = (
                RouteBroker(there.name, there.broker) if there else RouteBroker("own", context.settings.broker)
            )
        groups.setdefault(route.group, []).append(RouteTarget(context.celery, route, brokers[route.group]))
    return groups


def traceparent(uid: str, event_id: str) -> str:
    """W3C trace context: one trace for each Job, in it one span for each event; the same however often it is sent."""
    return f"00-{_hex(uid, 32, _TRACE_ID)}-{_hex(event_id, 16, _SPAN_ID)}-01"


def _hex(text: str, length: int, valid: "re.Pattern[str]") -> str:
    digits = text.replace("-", "").lower()[:length]
    if valid.fullmatch(digits):
        return digits
    return hashlib.sha256(text.encode()).hexdigest()[:length]  # not a UUID: another system's, or a test's
