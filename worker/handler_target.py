"""What an event is handed to when a handler wants it: its task in this process, or a message in the queue that it names."""

import asyncio
from concurrent.futures import Executor
from typing import Any

from celery.utils.time import rate

from jobcast.delivery.target import BACKOFF_SECONDS, MAX_RETRIES, Delivery, Ended, Place, Refused, Retry, RetryPolicy
from jobcast.event import Event
from worker.outcome import Outcome
from worker.queues import shared_queue
from worker.tasks import HandlerTask
from worker.transport import InProcessTransport, Message, headers_of

BY_THE_BROKER = frozenset({"queue", "priority"})
"""Options of a handler whose events go through the broker: only there workers share them, and order them by priority."""
SENDING_POLICY = RetryPolicy(bounds=(0.5, 10.0))
"""While the broker takes nothing."""
SENDING_SECONDS = 30.0
"""The longest that a message may take to send: shorter than the minute after which it would be sent again."""


class HandlerTarget:
    """A task around an `@on(...)` function, in this process."""

    place = Place.HERE
    time_limit = None

    def __init__(self, task: HandlerTask, transport: InProcessTransport, *, longest: float, can_kill: bool) -> None:
        """`longest` is in seconds, 0 for no limit; `can_kill`: the pool has processes, and Celery ends one at its time limit."""
        handler, options = task.handler, task.handler.options
        self.name = handler.name
        self.statuses = handler.filter.statuses
        self.wants = handler.wants
        self.rate = float(rate(options.get("rate_limit", 0)) or 0)
        first, last = BACKOFF_SECONDS
        self.retry = RetryPolicy(
            options.get("max_retries", MAX_RETRIES),
            (float(options.get("retry_backoff", first)), float(options.get("retry_backoff_max", last))),
            options.get("retry_jitter", True),
        )
        self._transport = transport
        self._can_kill = can_kill
        self._thread_seconds = None if can_kill or not longest else longest
        self._headers = headers_of(task)

    async def run(self, delivery: Delivery) -> Ended:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()

        def note(outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        message = Message(
            self._headers,
            f"{delivery.event.id}:{self.name}",
            (delivery.entry, delivery.body.decode()),
            lambda outcome: loop.call_soon_threadsafe(note, outcome),
        )
        self._transport.put(message)
        try:
            async with asyncio.timeout(self._thread_seconds):
                outcome = await ended
        except TimeoutError:
            self._transport.lose(message, kill=False)
            raise Refused(
                f"it took longer than {self._thread_seconds:g} s; its thread cannot be ended, and is lost"
            ) from None
        except asyncio.CancelledError:
            self._transport.lose(message, kill=self._can_kill)
            raise
        return self._ended(outcome, delivery)

    def _ended(self, outcome: Outcome, delivery: Delivery) -> Ended:
        if outcome.kind == "failed":
            seconds = self.retry.pause(delivery.tries) if outcome.seconds is None else outcome.seconds
            raise Retry(seconds, outcome.reason, outcome.traceback)
        if outcome.kind == "dead":
            raise Refused(outcome.reason)
        return Ended(outcome.kind)


class QueueTarget:
    """A handler with a queue or a priority: the broker carries a message, and whoever gets it asks to begin."""

    place = Place.ELSEWHERE
    retry = SENDING_POLICY
    time_limit = SENDING_SECONDS

    def __init__(self, task: HandlerTask, here: HandlerTarget, prefix: str, sender: Executor) -> None:
        self.name = here.name
        self.statuses = here.statuses
        self.wants = here.wants
        self.rate = here.rate
        self.here = here
        self._task = task
        self.queue: str = task.handler.options.get("queue", shared_queue(prefix))
        self._sender = sender

    async def run(self, delivery: Delivery) -> Ended:
        await asyncio.get_running_loop().run_in_executor(self._sender, self._send, delivery.entry, delivery.event)
        return Ended.SENT

    def _send(self, entry: str, event: Event) -> None:
        options: dict[str, Any] = {"queue": self.queue, "retry": False, "argsrepr": f"({entry!r})"}
        with self._task.app.producer_pool.acquire(block=True) as producer:
            self._task.apply_async(args=(entry,), task_id=f"{event.id}:{self.name}", producer=producer, **options)


def is_for_the_broker(task: HandlerTask) -> bool:
    return not BY_THE_BROKER.isdisjoint(task.handler.options)
