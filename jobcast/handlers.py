"""The registry behind `from jobcast import on`: which function wants which events. Pure: no Celery, no Redis.

    @on("completed", "failed", queue="scoring", labels={"team": "a"})
    def score(event): ...

The function stays as it is: a test can call it with an event made by hand.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar, Unpack

from jobcast.event import Event
from jobcast.filters import Filter, OneOrMore, filter_of

F = TypeVar("F", bound=Callable[..., Any])
_RATE = re.compile(r"(?=.*[1-9])\d+(\.\d+)?(/[smh])?")


@dataclass(frozen=True, slots=True)
class Handler:
    """A function, the events it wants, and the options it runs with."""

    name: str
    """`<module>.<function>`: the Celery task's name."""
    function: Callable[..., Any]
    filter: Filter = field(default_factory=Filter)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those of `on(...)` that were given."""

    def wants(self, event: Event) -> bool:
        return self.filter.wants(event)

    def call(self, event: Event) -> None:
        """Raises what the function raises, and TypeError when it returned an awaitable, which would never run."""
        returned = self.function(event)
        if inspect.isawaitable(returned):
            getattr(returned, "close", lambda: None)()  # otherwise Python warns that it was never awaited
            raise TypeError(f"handler {self.name} returned an awaitable; it must be a plain function")


class Registry:
    """Handlers by name, in the order of their registration."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, handler: Handler) -> None:
        """Raises ValueError when the name is taken: Celery would run only one of the two tasks."""
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


class HandlerOptions(TypedDict, total=False):
    """How a handler runs. Celery's options mean what they mean there; None is as good as absent."""

    queue: str | None
    """Served by any worker with that queue; without one, by the worker that read the event."""
    priority: int | None
    """0 to 9, among the tasks that wait in one queue; with Redis as broker 0 is first."""
    rate_limit: str | float | None
    """Calls in each worker, for example "10/s", "100/m"."""
    time_limit: float | None
    """Seconds, then its process is killed; needs --pool prefork."""
    soft_time_limit: float | None
    """Seconds, then SoftTimeLimitExceeded is raised in it; needs --pool prefork."""
    max_retries: int | None
    """Calls after the first; default 3."""
    retry_backoff: float | None
    """Seconds before the first retry, doubled for each further one; default 1."""
    retry_backoff_max: float | None
    """The longest of these waits, in seconds; default 600."""
    retry_jitter: bool | None
    """Each wait is shortened at random, to no less than half; default True."""
    acks_late: bool | None
    """Always True: the event is acknowledged when the function has ended."""


def on(
    *statuses: str,
    labels: Mapping[str, OneOrMore] | None = None,
    namespace: OneOrMore | None = None,
    pipeline: OneOrMore | None = None,
    into: Registry | None = None,
    **options: Unpack[HandlerOptions],
) -> Callable[[F], F]:
    """Call the function with every event of these statuses; without a status, of all.

    It gets the event (one of `jobcast.event`) at least once, so it must be idempotent: `event.id` is the same each time. What
    it returns is ignored. When it raises, it is called again, after a longer wait each time; after `max_retries` the event
    becomes a dead letter.

    Filters, all of which must hold: `labels` of the Job, by value or list of values (METADATA_LABELS must list them), its
    `namespace`, one or a list, and `pipeline`, short for the label `pipeline`. HandlerOptions has the options.

    Raises ValueError, with the function's name, for a wrong value and for a function that cannot handle an event when it
    is called with one.
    """
    for status in statuses:
        if callable(status):
            raise ValueError("@on needs parentheses: @on() for every event, or for example @on('completed')")
    for option in options.keys() - _CHECKS.keys():
        raise TypeError(f"on() got an unexpected keyword argument {option!r}")
    given = {name: value for name, value in options.items() if value is not None}

    def register(function: F) -> F:
        name = _checked_name(function)
        try:
            wanted = filter_of(statuses, labels, namespace, pipeline)
            _check(given)
        except ValueError as error:
            raise ValueError(f"handler {name}: {error}") from None
        (registry if into is None else into).add(Handler(name, function, wanted, given))
        return function

    return register


def _checked_name(function: Any) -> str:
    if not inspect.isroutine(function):
        raise ValueError(f"on(...) is for functions, and {function!r} is not one")
    name = f"{function.__module__}.{function.__qualname__}"
    for is_of_the_kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        if is_of_the_kind(function):
            raise ValueError(f"handler {name} must be a plain function, not async and not a generator")
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        raise ValueError(f"handler {name} must take one argument, the event") from None
    return name


def _is_number(value: Any, *, above: float = 0) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and above <= value <= 1_000_000


def _is_integer(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_seconds(value: Any) -> bool:
    return _is_number(value, above=0.001)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "queue": (
        lambda value: isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable() and "," not in value,
        "it must be the name of a queue",
    ),
    "priority": (lambda value: _is_integer(value, 9), "it must be a whole number from 0 to 9"),
    "rate_limit": (
        lambda value: bool(_RATE.fullmatch(value)) if isinstance(value, str) else _is_number(value, above=0.001),
        "it must be calls a second, or for example '10/s', '100/m', '3/h'",
    ),
    "time_limit": (_is_seconds, "it must be seconds, more than 0"),
    "soft_time_limit": (_is_seconds, "it must be seconds, more than 0"),
    "max_retries": (lambda value: _is_integer(value, 1_000_000), "it must be a whole number from 0 up"),
    "retry_backoff": (_is_number, "it must be a number from 0 up"),
    "retry_backoff_max": (_is_number, "it must be a number from 0 up"),
    "retry_jitter": (lambda value: isinstance(value, bool), "it must be True or False"),
    "acks_late": (
        lambda value: value is True,
        "an event is acknowledged when its handler has ended; to have it called once only, say max_retries=0",
    ),
}


def _check(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        is_right, what_is_right = _CHECKS[name]
        if not is_right(value):
            raise ValueError(f"{name}={value!r}: {what_is_right}")
    soft, hard = options.get("soft_time_limit"), options.get("time_limit")
    if soft is not None and hard is not None and soft >= hard:
        raise ValueError(f"soft_time_limit={soft!r}: it must be less than time_limit, which is {hard!r}")
