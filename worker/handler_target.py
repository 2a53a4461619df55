"""What an event is handed to: a handler of ours, or (worker/route_target.py) a task of an existing Celery app."""

from typing import Any, Protocol

from jobcast.event import Event, Status
from worker.context import WorkerContext
from worker.in_flight import InFlight
from worker.outcome import Handed
from worker.tasks import HandlerTask
from worker.transport import Message, headers_of

BY_THE_BROKER = frozenset({"queue", "priority"})
"""Options of a handler whose tasks have to go through the broker."""


class Target(Protocol):
    """Wants some events, and can be handed one. If `hand` raises what the broker raises, the event is handed again."""

    name: str
    statuses: frozenset[Status]
    ends_with_its_task: bool
    """Whether it ends with its task, later and elsewhere; if not, it has ended when it was handed over."""

    def wants(self, event: Event) -> bool: ...

    def hand(self, item: InFlight["Target"], producer: Any) -> str:
        """Returns the task's id, the same for the same event and target."""
        ...


class HandlerTarget:
    """A task around an `@on(...)` function. It ends when the function has ended, in whatever process that is."""

    ends_with_its_task = True

    def __init__(self, context: WorkerContext, task: HandlerTask, own_queue: str) -> None:
        self.name = task.handler.name
        self.statuses = task.handler.filter.statuses
        self._context = context
        self._task = task
        self._queue = task.handler.options.get("queue", own_queue)
        self._headers = headers_of(task)
        # Only the broker orders them by priority, and shares them with other workers.
        self._is_for_the_broker = not BY_THE_BROKER.isdisjoint(task.handler.options)

    def wants(self, event: Event) -> bool:
        return self._task.handler.wants(event)

    def hand(self, item: InFlight["Target"], producer: Any) -> str:
        task_id = f"{item.event_id}:{self.name}"
        args = (item.entry, item.body)
        argsrepr = f"({item.entry!r}, …)"  # the event may be long, and does not belong in a log
        if not self._is_for_the_broker:
            message = Message(self._headers, task_id, args, argsrepr, self._queue, self._lost)
            if self._context.transport.put(message):
                return task_id
        self._task.apply_async(
            args=args,
            task_id=task_id,
            queue=self._queue,
            argsrepr=argsrepr,  # type: ignore[call-arg] # the stubs lack it
            retry=False,  # the stream consumer retries
            producer=producer,
        )
        return task_id

    def _lost(self, task: Handed) -> None:
        self._context.on_task_ended(task, True)
