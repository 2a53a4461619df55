"""The modules named by HANDLERS, loaded and checked. What is wrong with them ends the process with exit code 2."""

import importlib
import os
import sys
from collections.abc import Iterable

from jobcast.handlers import Registry
from jobcast.settings import EXIT_WRONG_SETTINGS

OPTIONS = frozenset(
    {
        *("queue", "priority", "rate_limit", "time_limit", "soft_time_limit"),  # Celery's own
        *("max_retries", "retry_backoff", "retry_backoff_max", "retry_jitter"),  # Celery's names, kept by worker.tasks
    }
)
"""What `on(...)` may be given. Others would break a promise (`acks_late`, `expires`, `serializer`) or be overlooked."""


class HandlerError(ValueError):
    """A module of HANDLERS that cannot be used; the text names it and says why."""


def load(modules: Iterable[str], registry: Registry) -> Registry:
    """Import the modules, so that they register their handlers. Ends the process with code 2 when one cannot be used."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as Celery does for its own --app
    try:
        for module in modules:
            load_one(module)
        check(registry)
    except HandlerError as error:
        print(f"HANDLERS: {error}", file=sys.stderr)  # noqa: T201 - before there is a log to write to
        raise SystemExit(EXIT_WRONG_SETTINGS) from None
    return registry


def load_one(module: str) -> None:
    """Raises HandlerError for whatever the module raises: it is somebody's code, anything may come."""
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split()) or "no reason given"
        raise HandlerError(f"{module!r} cannot be imported: {type(error).__name__}: {text}") from error


def check(registry: Registry) -> None:
    """Raises HandlerError for an option that is not known, or has no sensible value."""
    for handler in registry:
        for option, value in handler.options.items():
            if option not in OPTIONS:
                raise HandlerError(f"{handler.name}: no option {option!r}; there are {', '.join(sorted(OPTIONS))}")
            if option in ("max_retries", "retry_backoff", "retry_backoff_max") and (
                isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1_000_000
            ):
                raise HandlerError(f"{handler.name}: {option}={value!r}; it must be a number from 0 up")
