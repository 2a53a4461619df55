"""What the worker adds to the settings that every process shares."""

import re
from typing import Annotated

from celery import Celery
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from jobcast.service.settings import CommaList, CoreSettings, Port, Seconds, shown
from worker.broker import Broker, leads_to_a_cluster, of_celery, of_redis
from worker.routes import Route, load_routes, parse_routes

SHORTEST_SWEEP = 0.1
"""Seconds. Less would be a hot loop against the API server."""
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class WorkerSettings(CoreSettings):
    """What `celery -A worker worker` reads from the environment."""

    celery_broker_url: str | None = Field(
        None,
        repr=False,
        validate_default=True,
        description="Celery's broker. Default: REDIS_URL, unless that leads to a cluster, which cannot be one",
    )
    celery_result_backend: str | None = Field(
        None, repr=False, description="Where Celery stores results. Default: nowhere"
    )
    handlers: CommaList = Field((), description="Comma list of modules whose `@on(...)` functions become Celery tasks")
    routes: Annotated[tuple[Route, ...], NoDecode] = Field(
        (),
        description="Comma list of `status[|status]=task.name[@queue]` (`*` is every status): sends events, as JSON, to an"
        " existing Celery app on the same broker ([worker](worker.md#routes-to-an-existing-celery-app))",
    )
    routes_file: Annotated[tuple[Route, ...], NoDecode] = Field(
        (), description="YAML file of more routes, with filters, priorities and brokers of their own"
    )
    worker_http_port: Port = Field(
        8081, description="Port for `/livez`, `/readyz`, `/metrics` and `/statusz`; 0 takes a free one"
    )
    worker_prefetch: int = Field(
        64, ge=1, le=10_000, description="How many events one worker holds at a time, running or queued"
    )
    handler_seconds: Seconds = Field(
        3600,
        description="The longest that a handler may run, unless it says `time_limit`; 0 is without limit. With `-P prefork` its"
        " process is killed then; with threads the event becomes a dead letter and the thread is lost",
    )
    takeover_seconds: float = Field(
        60, ge=1, le=86_400, description="After how many silent seconds of a worker another takes over its events"
    )
    sweep_seconds: Seconds = Field(60, description="Interval of the sweep, at least 0.1; 0 switches it off")

    @field_validator("sweep_seconds")
    @classmethod
    def _check_sweep(cls, value: float) -> float:
        if 0 < value < SHORTEST_SWEEP:
            raise ValueError(f"it must be 0, or at least {SHORTEST_SWEEP:g}")
        return value

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
        return parse_routes(value) if isinstance(value, str) else value

    @field_validator("routes_file", mode="before")
    @classmethod
    def _load_routes(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        if not (path := value.strip()):
            return ()
        return load_routes(path, info.data.get("metadata_labels", ()), info.data.get("routes", ()))

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
        elif leads_to_a_cluster(info.data.get("redis_url", "")):  # a wrong one is reported by itself
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
    def every_route(self) -> tuple[Route, ...]:
        return self.routes + self.routes_file

    @property
    def broker(self) -> Broker:
        return of_celery(self.celery_broker_url) if self.celery_broker_url else of_redis(self.redis_url)
