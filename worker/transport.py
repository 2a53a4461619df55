"""From the delivery's thread to Celery's consumer, past the broker: tasks that live and die with this process (ADR 14).

Celery gets what its broker would have delivered, in the same place: time limits, revocation, events and pools work as usual.
It is given no more tasks than the pool has places, so that what waits can be taken back. Acknowledging such a message does
nothing: the stream's entry counts.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from worker.outcome import BACK, Outcome
from worker.tasks import HandlerTask

log = logging.getLogger(__name__)
AHEAD_SECONDS = 0.05
"""No more is taken ahead than begins within so many seconds."""
SHARE = 0.2
"""Of the newest task in the mean of their durations."""
LEAST_SECONDS = 0.001
"""That a task counts for: so that no more than fifty are taken ahead for each place."""


class InProcessTransport:
    """Between two threads: the delivery calls `put`, `withdraw` and `lose`, Celery's consumer the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Message, float] = {}
        """And since when, by the monotonic clock."""
        self._given: dict[Message, float] = {}
        """In the pool's hands, and since when."""
        self._mean = 1.0
        """Seconds that a task takes."""
        self._lost: set[Message] = set()
        """Given to threads that hang, and were given up."""
        self._consumer: Any = None
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    @property
    def places(self) -> int:
        """Tasks that the pool runs at the same time, without threads that hang for good."""
        consumer = self._consumer
        return max(0, int(consumer.pool.num_processes or 1) - len(self._lost)) if consumer is not None else 0

    @property
    def room(self) -> int:
        """How many tasks are useful here at the same time: those that run, and those that begin soon."""
        places = self.places
        return places + int(places * AHEAD_SECONDS / max(self._mean, LEAST_SECONDS))

    def attach(self, consumer: Any) -> None:
        """The consumer is there. It may not be connected to its broker, which is not needed here."""
        self._consumer = consumer
        if consumer.hub is None:
            # Celery waits for its broker alone then, and its pools can be used from any thread.
            threading.Thread(target=self._deliver_always, name="transport", daemon=True).start()

    def register(self, hub: Any) -> None:
        """Celery's loop begins, or begins again."""
        hub.add_reader(self._read, self._deliver)
        self._poke()

    def put(self, message: "Message") -> None:
        with self._lock:
            self._waiting[message] = time.monotonic()
        self._poke()

    def withdraw(self, older_than: float = 0.0) -> int:
        """Take back what has waited for so many seconds, and say so to it. Returns how many."""
        limit = time.monotonic() - older_than
        with self._lock:
            late = [message for message, since in self._waiting.items() if since <= limit]
            for message in late:
                del self._waiting[message]
            if late and older_than:
                self._mean = max(self._mean, older_than)
        for message in late:
            message.end(BACK)
        return len(late)

    def lose(self, message: "Message", *, kill: bool) -> None:
        """Nobody waits for it any more. With `kill` its process is ended; a thread cannot be, and its place is lost."""
        with self._lock:
            self._waiting.pop(message, None)
            if message not in self._given:
                return
            if not kill:
                del self._given[message]
                self._lost.add(message)
        if kill and self._consumer.hub is not None:
            self._consumer.hub.call_soon(self._kill, message)
            self._poke()

    def _kill(self, message: "Message") -> None:
        if message in self._given and message.pid is not None:
            self._consumer.pool.terminate_job(message.pid, "KILL")

    def _poke(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of such calls
            os.write(self._write, b"!")

    def _ended(self, message: "Message") -> None:
        with self._lock:
            since = self._given.pop(message, None)
            if since is not None:
                self._mean += SHARE * (time.monotonic() - since - self._mean)
            self._lost.discard(message)
            has_more = bool(self._waiting)
        if has_more:
            self._poke()

    def _deliver_always(self) -> None:
        os.set_blocking(self._read, True)
        while True:
            self._deliver()

    def _deliver(self, *_: Any) -> None:
        os.read(self._read, 4096)
        while True:
            with self._lock:
                if not self._waiting or len(self._given) >= self.places:
                    return
                message = next(iter(self._waiting))
                del self._waiting[message]
                self._given[message] = time.monotonic()
            message.given_up = self._ended
            try:
                handle = self._consumer.strategies[message.headers["task"]]
                handle(message, None, message.acknowledge, message.reject, self._consumer.on_task_message)
            except Exception as error:
                log.exception("celery cannot begin a task")
                message.end(Outcome("failed", f"celery cannot begin its task: {type(error).__name__}: {error}"))


class Message:
    """Of one task, as Celery's strategy wants a message of its broker's."""

    content_type = content_encoding = None
    body = None

    def __init__(
        self,
        headers: dict[str, Any],
        task_id: str,
        args: tuple[str, str],
        ended: Callable[[Outcome], object],
    ) -> None:
        """`headers` are those that all messages of a task share; see `headers_of`. `ended` is called once, in any thread."""
        self._on_end: Callable[[Outcome], object] | None = ended
        # The event may be long, and does not belong in a log.
        self.headers = {**headers, "id": task_id, "root_id": task_id, "argsrepr": f"({args[0]!r}, …)"}
        self.payload = {"args": args, "kwargs": {}}
        self.delivery_info = {"exchange": "", "routing_key": ""}
        self.properties = {"correlation_id": task_id}
        self.has_begun = False
        self.pid: int | None = None
        """Of the process that runs it."""
        self.given_up: Callable[[Message], object] = lambda message: None

    def end(self, outcome: Outcome) -> None:
        """The task ended. Does nothing the second time."""
        ended, self._on_end = self._on_end, None
        self.given_up(self)
        if ended is not None:
            ended(outcome)

    def acknowledge(self, *_: Any) -> None:
        """Nothing to do: the entry of the stream is acknowledged elsewhere."""

    def reject(self, _logger: Any, _errors: Any, requeue: bool) -> None:
        """Nothing to do, for the same reason."""


def headers_of(task: HandlerTask) -> dict[str, Any]:
    """What Celery would write into each message of the task; its own are added in a Message."""
    make = task.app.amqp.as_task_v2
    headers: dict[str, Any] = make("", task.name, argsrepr="", ignore_result=task.ignore_result).headers
    return headers
