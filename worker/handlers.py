"""The modules named by HANDLERS, loaded and checked. What is wrong with them ends the process with exit code 2."""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Collection, Iterable
from typing import NoReturn

from jobcast.handlers import Handler, Registry
from jobcast.service.settings import EXIT_WRONG_SETTINGS

TIME_LIMITS = ("time_limit", "soft_time_limit")
POOL_WITH_TIME_LIMITS = "celery.concurrency.prefork"
"""Celery's others have no process that could be ended, and say nothing."""


class HandlerError(ValueError):
    """A module of HANDLERS that cannot be used; the text names it and says why."""


def load(modules: Iterable[str], registry: Registry, metadata_labels: Collection[str]) -> Registry:
    """Import the modules, so that they register their handlers. Ends the process with code 2 when one cannot be used."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as Celery does for its own --app
    try:
        for module in modules:
            load_one(module)
        check(registry, metadata_labels)
    except HandlerError as error:
        refuse(error)
    return registry


def refuse(error: HandlerError) -> NoReturn:
    """End the process as every other wrong setting does."""
    print(f"HANDLERS: {error}", file=sys.stderr)  # noqa: T201 - before there is a log to write to
    raise SystemExit(EXIT_WRONG_SETTINGS) from None


def load_one(module: str) -> None:
    """Raises HandlerError for anything that the module raises: it is foreign code."""
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split()) or "no reason given"
        raise HandlerError(f"{module!r} cannot be imported: {type(error).__name__}: {text}{_place(error)}") from error


def check(registry: Registry, metadata_labels: Collection[str]) -> None:
    """Raises HandlerError for a handler that would never be called, or has the same function as another."""
    places: dict[object, Handler] = {}
    for handler in registry:
        if "<" in handler.name:
            raise HandlerError(
                f"{handler.name}: a handler must be a function at the top level of its module, not a lambda or a local one"
                " (one below @on needs functools.wraps)"
            )
        if unknown := handler.filter.unknown_labels(metadata_labels):
            raise HandlerError(f"{handler.name}: {never_matches(unknown[0], metadata_labels)}")
        function = inspect.unwrap(handler.function)
        file = os.path.realpath(function.__code__.co_filename) if inspect.isfunction(function) else function
        other = places.setdefault((file, handler.function.__qualname__), handler)
        if other is not handler:
            raise HandlerError(
                f"{handler.name} and {other.name} are one function of one file, imported by two names; name one of them"
            )


def check_pool(registry: Iterable[Handler], pool: str) -> None:
    """Raises HandlerError for a time limit that this pool, one of Celery's modules, would not keep."""
    for handler in registry:
        for option in TIME_LIMITS:
            if option in handler.options and pool != POOL_WITH_TIME_LIMITS:
                raise HandlerError(
                    f"{handler.name}: {option}={handler.options[option]!r} needs processes that can be ended; start the"
                    f" worker with --pool prefork"
                )


def never_matches(label: str, metadata_labels: Collection[str]) -> str:
    return (
        f"no event has the label {label!r}, because METADATA_LABELS does not list it; it lists"
        f" {', '.join(metadata_labels) or 'none'}"
    )


def _place(error: BaseException) -> str:
    """Where in the module it happened; empty for what is wrong with the whole of it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    theirs = [frame for frame in frames if frame.filename != __file__]
    return f" ({os.path.basename(theirs[0].filename)}, line {theirs[0].lineno})" if theirs else ""
