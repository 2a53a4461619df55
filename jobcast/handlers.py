"""The registry behind `from jobcast import on`: which function wants which events. Pure: no Celery, no Redis.

    @on("completed", "failed", queue="scoring")
    def score(event): ...

The function stays what it was and can be called in a test with an event made by hand.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jobcast.event import Event, Status

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Handler:
    """A function, the statuses it wants, and the Celery options it is to run with."""

    name: str
    """`<module>.<function>`: the Celery task's name."""
    function: Callable[..., Any]
    statuses: frozenset[Status]
    options: Mapping[str, Any] = field(default_factory=dict)

    def wants(self, event: Event) -> bool:
        return event.status in self.statuses


class Registry:
    """Handlers by name, in the order of their registration."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, handler: Handler) -> None:
        """Raises ValueError when the name is taken: two tasks of one name would hide each other in Celery."""
        if handler.name in self._handlers:
            raise ValueError(f"handler {handler.name} is registered twice; rename one of the two functions")
        self._handlers[handler.name] = handler

    def wanting(self, event: Event) -> list[Handler]:
        return [handler for handler in self._handlers.values() if handler.wants(event)]

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)

    def clear(self) -> None:
        self._handlers.clear()


registry = Registry()
"""The one that `on` fills and the worker reads."""


def on(*statuses: str, into: Registry | None = None, **options: Any) -> Callable[[F], F]:
    """Have the function called with every event of these statuses; with none named, of all.

    `options` are Celery's own task options (`queue`, `max_retries`, `rate_limit`, `time_limit`, …). Raises ValueError
    for a status that does not exist, and for a function whose body would not run when it is called. The function gets
    the event (one of `jobcast.event`), at least once an event, and must bear a repetition: `event.id` is the same each
    time.
    """
    wanted = []
    for status in statuses:
        if callable(status):
            raise ValueError("@on needs parentheses: @on() for every event, or for example @on('completed')")
        if status not in Status.__members__.values():
            known = ", ".join(Status)
            raise ValueError(f"on({status!r}): no such status; there are {known}")
        wanted.append(Status(status))

    def register(function: F) -> F:
        if not inspect.isroutine(function):
            raise ValueError(f"on(...) is for functions, and {function!r} is none")
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise ValueError(f"handler {function.__qualname__} must be a plain function, not async and not a generator")
        name = f"{function.__module__}.{function.__qualname__}"
        handler = Handler(name, function, frozenset(wanted or Status), options)
        (registry if into is None else into).add(handler)
        return function

    return register
