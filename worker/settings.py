"""What the worker adds to the settings that all deployables share."""

import re
from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from jobcast.event import Status
from jobcast.settings import CoreSettings, Port, Seconds, shown
from worker.broker import Broker, leads_to_a_cluster, of_celery, of_redis

_ROUTE = re.compile(r"(?P<statuses>[a-z*|]+)=(?P<task>[A-Za-z0-9_.:-]+)(@(?P<queue>[A-Za-z0-9_.:{}-]+))?")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class Route:
    """Events of these statuses go as a task of that name to an existing Celery app, with the event as its argument."""

    statuses: frozenset[Status]
    task: str
    queue: str | None
    """None is Celery's own default queue, `celery`."""

    @property
    def name(self) -> str:
        return f"route:{self.task}@{self.queue or ''}"


class WorkerSettings(CoreSettings):
    """What `celery -A worker worker` reads from the environment."""

    celery_broker_url: str | None = Field(
        None,
        repr=False,
        validate_default=True,
        description="Celery's broker. Default: REDIS_URL, unless that leads to a cluster, which cannot be one",
    )
    celery_result_backend: str | None = Field(
        None, repr=False, description="Where Celery keeps results. Default: nowhere"
    )
    handlers: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma list of modules whose `@on(...)` functions become Celery tasks"
    )
    routes: Annotated[tuple[Route, ...], NoDecode] = Field(
        (),
        description="Comma list of `status[|status]=task.name[@queue]` (`*` is every status): events sent, as JSON, to"
        " an existing Celery app on the same broker",
    )
    worker_http_port: Port = Field(8081, description="`/livez` and `/metrics`; 0 is any free port")
    worker_prefetch: int = Field(
        64, ge=1, le=10_000, description="Events that one worker holds at a time: handed out or waiting for their turn"
    )
    takeover_seconds: float = Field(
        60, ge=1, le=86_400, description="What a worker held that was silent for so long is taken over by another"
    )
    sweep_seconds: Seconds = Field(60, description="The poll; 0 switches it off")

    @field_validator("handlers", mode="before")
    @classmethod
    def _split_handlers(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("handlers")
    @classmethod
    def _check_handlers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for module in value:
            if not _MODULE.fullmatch(module):
                raise ValueError(f"{shown(module)} is not a module's name; write for example my_handlers,team.scoring")
        return tuple(dict.fromkeys(value))

    @field_validator("routes", mode="before")
    @classmethod
    def _parse_routes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        routes = tuple(_route(part.strip()) for part in value.split(",") if part.strip())
        names = [route.name for route in routes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{shown(name.removeprefix('route:'))} is named twice; join its statuses with |")
        return routes

    @field_validator("celery_broker_url", "celery_result_backend", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return (value.strip() or None) if isinstance(value, str) else value

    @field_validator("celery_broker_url", "celery_result_backend")
    @classmethod
    def _check_characters(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("it has a control character in it; write for example redis://host:port/db")
        return value

    @field_validator("celery_broker_url")
    @classmethod
    def _check_broker(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            of_celery(value)
        elif leads_to_a_cluster(info.data.get("redis_url", "")):  # a wrong one is told of by itself
            raise ValueError("REDIS_URL leads to a cluster, which cannot be Celery's broker; give one of its own")
        return value

    @field_validator("celery_result_backend")
    @classmethod
    def _check_backend(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                if value.startswith("://"):
                    raise ValueError  # Celery takes it for none
                _ = Celery(backend=value, set_as_current=False).backend
        except Exception:  # whatever parsing a URL and importing a library raise, with the URL in it
            raise ValueError(
                "Celery has no such backend, or cannot use it as it is here; write for example redis://host:port/db"
            ) from None
        return value

    @property
    def broker(self) -> Broker:
        return of_celery(self.celery_broker_url) if self.celery_broker_url else of_redis(self.redis_url)


def _route(text: str) -> Route:
    match = _ROUTE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} does not parse; write for example completed|failed=shop.tasks.invoice@billing")
    names = match["statuses"].split("|")
    if names == ["*"]:
        return Route(frozenset(Status), match["task"], match["queue"])
    for name in names:
        if name not in Status.__members__.values():
            raise ValueError(f"{shown(text)}: no status {shown(name)}; there are {', '.join(Status)}, and * for all")
    return Route(frozenset(map(Status, names)), match["task"], match["queue"])
