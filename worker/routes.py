"""Which events go to which existing Celery app: ROUTES, one line, and ROUTES_FILE, a list in YAML.

- statuses: [completed, failed]     # default: all
  task: shop.tasks.invoice          # by name; nothing of theirs is imported
  queue: billing                    # default: celery, as Celery's own
  broker: ${SHOP_BROKER_URL}        # default: ours; the variable may come from a Secret
  labels: {team: a}                 # filters, as those of a handler
  namespace: evals
  pipeline: nightly
  priority: 5
  serializer: json                  # nothing else
"""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from jobcast.event import Status
from jobcast.filters import Filter, filter_of
from jobcast.keys import GROUP
from jobcast.service.settings import shown
from worker.broker import Broker, of_route
from worker.handlers import never_matches

_TASK = r"[A-Za-z0-9_.:-]+"
_QUEUE = r"[A-Za-z0-9_.:{}-]+"
_ROUTE = re.compile(rf"(?P<statuses>[a-z*|]+)=(?P<task>{_TASK})(@(?P<queue>{_QUEUE}))?")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEYS = ("statuses", "task", "queue", "broker", "labels", "namespace", "pipeline", "priority", "serializer")
_ALL = "*"
HIGHEST_PRIORITY = 255
"""RabbitMQ's; Redis takes what is above 9 for 9."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The broker of another app."""

    name: str
    """Of the variable that it was read from, so that it stays the same when the broker moves; else its address."""
    broker: Broker


@dataclass(frozen=True, slots=True)
class Route:
    """Events that the filter lets through go as a task of that name to an existing Celery app, with the event as argument."""

    filter: Filter
    task: str
    queue: str | None = None
    """None is Celery's own default queue, `celery`."""
    elsewhere: Elsewhere | None = None
    """None is our own broker."""
    priority: int | None = None

    @property
    def name(self) -> str:
        return f"route:{self.task}@{self.queue or ''}" + (f"@{self.elsewhere.name}" if self.elsewhere else "")

    @property
    def group(self) -> str:
        """The consumer group that sends it: one for each broker, so that one that is down holds up no other."""
        return f"{GROUP}:{self.elsewhere.name}" if self.elsewhere else GROUP


def parse_routes(text: str) -> tuple[Route, ...]:
    """What ROUTES says. Raises ValueError."""
    return _all_different([_of_line(part.strip()) for part in text.split(",") if part.strip()])


def load_routes(path: str, metadata_labels: Collection[str], others: Sequence[Route]) -> tuple[Route, ...]:
    """What the file says; `others` are those that there are besides. Raises ValueError, never repeating a password."""
    try:
        content = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:  # its own text shows the line, which may have a password in it
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"it is not YAML: {error.problem}{line}") from None
    except (yaml.YAMLError, RecursionError):
        raise ValueError("it is not YAML") from None
    if not isinstance(content, list):
        raise ValueError("it must be a list of routes; write for example - {statuses: [completed], task: shop.invoice}")
    routes = []
    for number, entry in enumerate(content, 1):
        try:
            route = _of_entry(entry)
            if unknown := route.filter.unknown_labels(metadata_labels):
                raise ValueError(never_matches(unknown[0], metadata_labels))
        except ValueError as error:
            raise ValueError(f"route {number}: {error}") from None
        routes.append(route)
    addresses = {route.elsewhere.name: route.elsewhere.broker for route in routes if route.elsewhere}
    for route in routes:
        if route.elsewhere and addresses[route.elsewhere.name] != route.elsewhere.broker:
            raise ValueError(f"two accounts of one broker, {route.elsewhere.name}; give each as ${{A_VARIABLE}}")
    return _all_different(routes, others)


def _of_line(text: str) -> Route:
    match = _ROUTE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} does not parse; write for example completed|failed=shop.tasks.invoice@billing")
    names = match["statuses"].split("|")
    try:
        return Route(filter_of([] if names == [_ALL] else names), match["task"], match["queue"])
    except ValueError as error:
        raise ValueError(f"{shown(text)}: {error}, and {_ALL} for all") from None


def _of_entry(entry: Any) -> Route:
    if not isinstance(entry, dict):
        raise ValueError("it must be keys and values; write for example {statuses: [completed], task: shop.invoice}")
    for key in entry:
        if key not in _KEYS:
            raise ValueError(f"no key {shown(str(key))}; there are {', '.join(_KEYS)}")
    if "task" not in entry:
        raise ValueError("it names no task; write for example task: shop.tasks.invoice")
    if entry.get("serializer", "json") != "json":
        raise ValueError(
            f"serializer: {shown(str(entry['serializer']))}: json alone is sent; others can carry code, which their reader"
            " would run"
        )
    priority = entry.get("priority")
    if priority is not None and (type(priority) is not int or not 0 <= priority <= HIGHEST_PRIORITY):
        raise ValueError(f"priority: {shown(str(priority))}: it must be a whole number from 0 to {HIGHEST_PRIORITY}")
    return Route(
        filter_of(_statuses(entry.get("statuses")), entry.get("labels"), entry.get("namespace"), entry.get("pipeline")),
        _text(entry, "task", _TASK),
        _text(entry, "queue", _QUEUE) if entry.get("queue") is not None else None,
        _elsewhere(entry["broker"]) if entry.get("broker") is not None else None,
        priority,
    )


def _statuses(given: Any) -> list[str]:
    names = given if isinstance(given, list) else [given]
    if names in ([None], [_ALL]):
        return []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"statuses: it must be a list of {', '.join(Status)}")
    return names


def _text(entry: dict[Any, Any], key: str, pattern: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"{key}: {shown(str(value))} is not the name of a {key}")
    return value


def _elsewhere(given: Any) -> Elsewhere:
    try:
        if not isinstance(given, str):
            raise ValueError("it must be a URL, or ${A_VARIABLE} with one")
        if reference := _REFERENCE.fullmatch(given.strip()):
            name = reference[1]
            url = os.environ.get(name, "").strip()
            if not url:
                raise ValueError(f"the environment has no variable {name}")
            return Elsewhere(name, of_route(url))
        if "${" in given:
            raise ValueError("a variable must be all of it: ${A_VARIABLE} with the whole URL")
        broker = of_route(given.strip())
        place = urlsplit(given.strip().partition(";")[0])
        return Elsewhere(place.netloc.rpartition("@")[2] + place.path.rstrip("/"), broker)
    except ValueError as error:
        raise ValueError(f"broker: {error}") from None


def _all_different(routes: Sequence[Route], others: Sequence[Route] = ()) -> tuple[Route, ...]:
    names = [route.name for route in (*others, *routes)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{shown(name.removeprefix('route:'))} is named twice; make one route of the two")
    return tuple(routes)
