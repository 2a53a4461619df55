"""From the stream consumer's thread to Celery's consumer, past the broker: tasks that live and die with this process (ADR 14).

Celery gets what its broker would have delivered, in the same place: time limits, rate limits, revocation, events and pools
work as usual. Acknowledging such a message does nothing: the stream's entry counts.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from kombu.exceptions import OperationalError

from worker.outcome import Handed
from worker.tasks import HandlerTask

AT_ONCE = 8
"""Tasks started in one turn of Celery's loop: enough to share its cost, few enough that a pool that works in the loop itself
soon notices a signal to stop."""


class InProcessTransport:
    """Between two threads: the stream consumer calls `put`, Celery's consumer the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Message] = deque()
        self._consumer: Any = None
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    @property
    def is_open(self) -> bool:
        """Whether the consumer is there."""
        return self._consumer is not None

    def attach(self, consumer: Any) -> None:
        """The consumer begins to read."""
        if consumer.hub is not None:
            consumer.hub.add_reader(self._read, self._deliver)
        with self._lock:
            self._consumer = consumer

    def detach(self) -> None:
        """It stops reading. What still waits is dropped: Celery forgets what it has reserved, too."""
        with self._lock:
            consumer, self._consumer = self._consumer, None
            if self._waiting:
                self._waiting.clear()
                os.read(self._read, 1)
        if consumer is not None and consumer.hub is not None:
            consumer.hub.remove(self._read)

    def put(self, message: "Message") -> bool:
        """False where it has to go through the broker: without an event loop (gevent, some transports) Celery waits for
        nothing else. Raises OperationalError while the consumer is not there."""
        with self._lock:
            if self._consumer is None:
                raise OperationalError("celery's consumer is not connected to its broker")
            if self._consumer.hub is None:
                return False
            self._waiting.append(message)
            if len(self._waiting) == 1:
                os.write(self._write, b"!")  # it is in the pipe as long as something waits
        return True

    def _deliver(self, *_: Any) -> None:
        for _turn in range(AT_ONCE):
            with self._lock:
                consumer = self._consumer
                if consumer is None or not self._waiting:
                    break
                message = self._waiting.popleft()
                if not self._waiting:
                    os.read(self._read, 1)
            handle = consumer.strategies[message.headers["task"]]
            handle(message, None, message.acknowledge, message.reject, consumer.on_task_message)


class Message:
    """Of one task, as Celery's strategy wants a message of its broker's."""

    content_type = content_encoding = None
    body = None

    def __init__(
        self,
        headers: dict[str, Any],
        task_id: str,
        args: tuple[str, str],
        argsrepr: str,
        queue: str,
        on_lost: Callable[[Handed], object],
    ) -> None:
        """`headers` are those that all messages of a task share; see `headers_of`."""
        self._on_lost = on_lost
        self.headers = {**headers, "id": task_id, "root_id": task_id, "argsrepr": argsrepr}
        self._handed: Handed = task_id, args[0]
        self._is_rejected = False
        self.payload = {"args": args, "kwargs": {}}
        # A retry goes through the broker, to this queue.
        self.delivery_info = {"exchange": "", "routing_key": queue}
        self.properties = {"correlation_id": task_id}

    def acknowledge(self, *_: Any) -> None:
        """Nothing to do: the entry of the stream is acknowledged elsewhere."""

    def reject(self, _logger: Any, _errors: Any, requeue: bool) -> None:
        """The task's process died, or the task asked for it. Celery may call it twice, when the task was already sent again."""
        if requeue and not self._is_rejected:
            self._is_rejected = True
            self._on_lost(self._handed)


def headers_of(task: HandlerTask) -> dict[str, Any]:
    """What Celery would write into each message of the task; its own are added in a Message."""
    make = task.app.amqp.as_task_v2
    headers: dict[str, Any] = make("", task.name, argsrepr="", ignore_result=task.ignore_result).headers
    return headers
