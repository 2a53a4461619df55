"""Whether Celery's consumer still reads: now and then a message into the worker's own queue, which must come out of it again.

A consumer whose broker answers, and that reads nothing any more, has been met again and again after a broker was lost
(celery/celery, issues 8091 and 10205); nothing but a restart helps.
"""

import logging
import time
from typing import Any

from celery import Celery
from celery.concurrency import solo
from celery.worker import state

from jobcast.service.availability import UNREACHABLE
from worker.queues import own_queue
from worker.transport import Message

log = logging.getLogger(__name__)
TASK = "jobcast.echo"
"""In place of a task's name in the message's headers."""
EVERY_SECONDS = 30.0
DEAF_SECONDS = 180.0
"""Without an answer, or without a turn of Celery's loop: longer than a broker may be slow, and a stopped process be stopped."""


class Canary:
    """Its turns are of the consumer's thread; `unhealthy_reason` may be asked by any."""

    def __init__(self, app: Celery, key_prefix: str) -> None:
        self._app = app
        self._prefix = key_prefix
        self._consumer: Any = None
        self._timer: Any = None
        self._turned = 0.0
        self._called: float | None = None
        """When the message was sent that has not come back."""

    def attach(self, consumer: Any) -> None:
        """The consumer begins to read. What was on its way is lost."""
        self._called, self._turned = None, time.monotonic()
        self._consumer = consumer
        self._timer = consumer.timer.call_repeatedly(EVERY_SECONDS, self._call)

    def detach(self) -> None:
        """The broker is lost, or the worker stops."""
        self._consumer = None
        if self._timer is not None:
            self._timer.cancel()

    def heard(self, message: Any) -> bool:
        """Whether the message is ours; it has come back then."""
        if (message.headers or {}).get("task") != TASK:
            return False
        self._called = None
        return True

    def unhealthy_reason(self) -> str | None:
        """What is wrong with the consumer, or None. That its broker is away is not its fault."""
        consumer, called, now = self._consumer, self._called, time.monotonic()
        if consumer is None:
            return None
        if called is not None and now - called > DEAF_SECONDS and not _is_full(consumer):
            return f"nothing read from the broker for {now - called:.0f} s"
        if now - self._turned > DEAF_SECONDS + EVERY_SECONDS and not _works_itself(consumer):
            return f"event loop stuck for {now - self._turned:.0f} s"
        return None

    def _call(self) -> None:
        self._turned = time.monotonic()
        if self._called is not None:
            return
        queue = own_queue(self._prefix, self._consumer.hostname)
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                producer.publish({}, routing_key=queue, headers={"task": TASK}, serializer="json", retry=False)
        except UNREACHABLE as error:
            log.debug("no echo, the broker is away", extra={"error": str(error)})
        else:
            self._called = self._turned


def _is_full(consumer: Any) -> bool:
    """It holds as many of the broker's messages as it may: it reads on when one has ended."""
    held = [request for request in tuple(state.reserved_requests) if not isinstance(request.message, Message)]
    return bool(len(held) >= consumer.initial_prefetch_count)


def _works_itself(consumer: Any) -> bool:
    """With the pool `solo` tasks run in the loop, as long as they please."""
    return bool(state.active_requests) and isinstance(consumer.pool, solo.TaskPool)
