"""Whether Celery's consumer still reads: now and then a message goes into the worker's own queue, and must come out again.

After a lost connection, consumers have repeatedly stopped reading although their broker answers (celery/celery, issues 8091
and 10205); only a restart helps.
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
TASK = "jobcast.canary"
"""In place of a task's name in the message's headers."""
EVERY_SECONDS = 30.0
DEAF_SECONDS = 180.0
"""Without an answer, or without a turn of Celery's loop: longer than a broker may be slow, or a process suspended."""


class Canary:
    """Called in the consumer's thread; `unhealthy_reason` in any."""

    def __init__(self, app: Celery, key_prefix: str) -> None:
        self._app = app
        self._prefix = key_prefix
        self._consumer: Any = None
        self._timer: Any = None
        self._turned = 0.0
        self._sent_at: float | None = None
        """When the message was sent that has not come back."""

    def attach(self, consumer: Any) -> None:
        """The consumer begins to read. A message that was on its way is lost."""
        self._sent_at, self._turned = None, time.monotonic()
        self._consumer = consumer
        self._timer = consumer.timer.call_repeatedly(EVERY_SECONDS, self._send)

    def detach(self) -> None:
        """The connection is lost, or the worker stops."""
        self._consumer = None
        if self._timer is not None:
            self._timer.cancel()

    def takes(self, message: Any) -> bool:
        """Whether the message is ours; then it has arrived."""
        if (message.headers or {}).get("task") != TASK:
            return False
        self._sent_at = None
        return True

    def unhealthy_reason(self) -> str | None:
        """What is wrong with the consumer, or None. An unreachable broker is no fault of it."""
        consumer, called, now = self._consumer, self._sent_at, time.monotonic()
        if consumer is None:
            return None
        if called is not None and now - called > DEAF_SECONDS and not _is_full(consumer):
            return f"nothing read from the broker for {now - called:.0f} s"
        if now - self._turned > DEAF_SECONDS + EVERY_SECONDS and not _works_itself(consumer):
            return f"event loop stuck for {now - self._turned:.0f} s"
        return None

    def _send(self) -> None:
        self._turned = time.monotonic()
        if self._sent_at is not None:
            return
        queue = own_queue(self._prefix, self._consumer.hostname)
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                producer.publish({}, routing_key=queue, headers={"task": TASK}, serializer="json", retry=False)
        except UNREACHABLE as error:
            log.debug("broker unreachable, no canary sent", extra={"error": str(error)})
        else:
            self._sent_at = self._turned


def _is_full(consumer: Any) -> bool:
    """It holds as many of the broker's messages as it may: it continues when one has ended."""
    held = [request for request in tuple(state.reserved_requests) if not isinstance(request.message, Message)]
    return bool(len(held) >= consumer.initial_prefetch_count)


def _works_itself(consumer: Any) -> bool:
    """With the pool `solo` tasks run in the loop, for as long as they take."""
    return bool(state.active_requests) and isinstance(consumer.pool, solo.TaskPool)
