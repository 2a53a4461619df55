"""Settings that every process shares, and how wrong ones are reported. Importing this reads no environment.

A setting's environment name is its field in capitals. Exit code 2 and one line per wrong setting: its name, what was
given, what would be right. Secrets are never repeated.
"""

import ipaddress
import os
import re
import sys
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobcast.jobs.decode import Reading
from jobcast.keys import DEFAULT_PREFIX
from jobcast.logstore import check_store, is_url
from jobcast.logstore.base import LARGEST_BYTES
from jobcast.redis.connection import check_options, check_url

EXIT_FAILED = 1
EXIT_WRONG_SETTINGS = 2
ALL_NAMESPACES = "*"
LONGEST_SHOWN = 100
"""Characters of a wrong value that a message repeats: enough to recognise it."""
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(?=.{{1,253}}$){part}(\.{part})*\.?".format(part="[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?"))
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"  # of a DNS name
_KEY = rf"((?=[^/]{{1,253}}/){_LABEL}(\.{_LABEL})*/)?{_NAME}"
_REQUIREMENT = re.compile(
    r"""(!\s*)?{key}                                  # exists, or does not
      | {key}\s*(=|==|!=)\s*{value}                   # equals
      | {key}\s*[<>]\s*[0-9]+                         # compares
      | {key}\s+(in|notin)\s*\(\s*{value}(\s*,\s*{value})*\s*\)""".format(key=_KEY, value=rf"({_NAME})?"),
    re.VERBOSE,
)


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


S = TypeVar("S", bound=BaseSettings)
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
RedisUrl = Annotated[str, AfterValidator(check_url), AfterValidator(check_options)]
LogStore = Annotated[str, AfterValidator(check_store)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class CoreSettings(BaseSettings):
    """What controller and worker both need to find the Jobs and to publish about them."""

    model_config = SettingsConfigDict(
        env_file=None, extra="ignore", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True
    )

    redis_url: RedisUrl = Field(
        "redis://localhost:6379/0",
        repr=False,
        description="Redis URL that Jobcast publishes to: `redis://host:port/db`, `redis+sentinel://host:port,host:port/service/db` or"
        " `redis+cluster://host:port,host:port`; `rediss` for TLS",
    )
    namespaces: CommaList = Field(
        (),
        description="Comma list of the namespaces to watch; `*` is all (needs a ClusterRole). Default: the Pod's own, else the context's",
    )
    label_selector: str = Field("app=evaluation", description="Selects the Jobs; evaluated by the API server")
    eval_id_label: str = Field(
        "eval-id", description="Label, or else annotation, of a Job that holds the evaluation's id"
    )
    metadata_labels: CommaList = Field(
        ("pipeline",), description="Comma list of the Job's labels that are copied into an event's `metadata`"
    )
    key_prefix: str = Field(
        DEFAULT_PREFIX, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Prefix of every key and channel in Redis"
    )
    http_host: str = Field("0.0.0.0", description="Address to serve probes and metrics on")  # noqa: S104 - a Pod
    log_excerpt_bytes: int = Field(
        65_536, ge=256, le=16_777_216, description="Maximum size of an event's `output`, beginning and end together"
    )
    log_store: LogStore = Field(
        "redis",
        description="Where whole logs are stored: `redis`, `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…`"
        " ([log stores](log-stores.md)); with `none`, only the excerpt in the event is kept",
    )
    log_store_limit_bytes: int = Field(
        1_048_576,
        ge=1024,
        le=LARGEST_BYTES,
        description="Maximum size of a log stored in Redis, up to 256 MiB; a longer one is cut and marked as truncated. Other stores take"
        " whole logs, whatever this says",
    )
    log_containers: Literal["main", "all"] = Field(
        "main",
        description="Which containers' logs are read. `main`: the main container's, and those of all containers of a failed attempt."
        " `all`: every container's of every attempt",
    )
    log_wait_seconds: Seconds = Field(10, description="How long a terminal event waits for its log")
    log_concurrency: int = Field(16, ge=1, le=1024, description="How many logs are read at the same time")
    finalizer: bool = Field(
        False,
        description="Add a finalizer to each Job until its end is recorded; needs `patch` on Jobs"
        " ([finalizer](finalizer.md))",
    )
    finalizer_max_seconds: float = Field(
        300, ge=1, le=86_400, description="How long a deleted Job keeps its finalizer while Redis is unreachable"
    )
    retention_seconds: int = Field(
        604_800, ge=60, le=31_536_000, description="How long records and ledger rows are kept after the end of a Job"
    )
    stream_max_seconds: int = Field(
        604_800,
        ge=60,
        le=31_536_000,
        description="Maximum age of stream entries; older ones are trimmed, except those that an active consumer group has not acknowledged",
    )
    stream_max_length: int = Field(
        1_000_000,
        ge=1000,
        le=1_000_000_000,
        description="Maximum length of the stream; older entries are trimmed, except those that an active consumer group has not"
        " acknowledged",
    )
    grace_seconds: Seconds = Field(25, description="Time from SIGTERM to exit; keep it below the Pod's")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged"
    )
    log_format: Literal["json", "console"] | None = Field(
        None, description="`json`, or `console` for people. Default: `console` on a terminal"
    )

    @field_validator("namespaces")
    @classmethod
    def _check_namespaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if ALL_NAMESPACES in value:
            if len(value) > 1:
                raise ValueError("* means all namespaces and stands alone")
            return value
        for name in value:
            if not _NAMESPACE.fullmatch(name):
                raise ValueError(f"{shown(name)} is not a namespace's name (lower case letters, digits and -)")
        return tuple(dict.fromkeys(value))

    @field_validator("label_selector")
    @classmethod
    def _check_selector(cls, value: str) -> str:
        # Commas separate requirements, except within the parentheses of a set.
        for requirement in re.split(r",(?![^(]*\))", value):
            if not _REQUIREMENT.fullmatch(requirement.strip()):
                raise ValueError(
                    f"{shown(requirement.strip())} does not parse; write for example app=evaluation,team in (a,b)"
                )
        return value

    @field_validator("eval_id_label")
    @classmethod
    def _check_label(cls, value: str) -> str:
        return _checked_label(value)

    @field_validator("metadata_labels")
    @classmethod
    def _check_labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(_checked_label, value)))

    @field_validator("log_store_limit_bytes", mode="wrap")
    @classmethod
    def _check_limit(cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> int:
        # The upper limit is that of Redis, whose readers hold a log in memory. Another store takes what it can.
        is_larger = str(value).strip().isdecimal() and int(value) > LARGEST_BYTES
        number: int = int(value) if is_larger and is_url(info.data.get("log_store", "redis")) else check(value)
        return number

    @field_validator("http_host")
    @classmethod
    def _check_host(cls, value: str) -> str:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            if not _HOST.fullmatch(value):
                raise ValueError(
                    "it must be an address of this machine, for example 0.0.0.0, :: or localhost"
                ) from None
        return value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


def reading_of(settings: CoreSettings) -> Reading:
    """How this installation reads its Jobs."""
    return Reading(eval_id_label=settings.eval_id_label, metadata_labels=settings.metadata_labels)


def watched_namespaces(settings: CoreSettings, own: str) -> tuple[str, ...] | None:
    """The namespaces to look at; None is all of them. `own` is the Pod's or the context's, where none is set."""
    namespaces = settings.namespaces or (own,)
    return None if ALL_NAMESPACES in namespaces else namespaces


def read(kind: type[S], **given: Any) -> S:
    """The settings: those given, the others from the environment. Ends the process with code 2 when one is wrong."""
    try:
        return kind(**given)
    except ValidationError as error:
        for line in complaints(error):
            print(line, file=sys.stderr)  # noqa: T201 - before there is a log to write to
        raise SystemExit(EXIT_WRONG_SETTINGS) from None


def complaints(error: ValidationError) -> list[str]:
    """One line for each wrong setting: its name, what was given, what would be right."""
    # Of names that differ in case alone, the last one counts, as it does for pydantic-settings.
    environment = {name.lower(): (name, value) for name, value in os.environ.items()}
    lines: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(problem["loc"][0]) if problem["loc"] else "settings"
        name, given = environment.get(field.lower(), (field.upper(), None))
        what = "" if given is None else f" {_hidden(given) if _is_url(field) else shown(given)}:"
        # The first of several things that are wrong with one setting says enough.
        lines.setdefault(name, f"{name}:{what} {problem['msg'].removeprefix('Value error, ')}")
    return list(lines.values())


def shown(text: str) -> str:
    """A value that was given, for a message: in one line, not too long, and without what is secret in a URL."""
    return _hidden(text) if re.search("://|:.*@", text, re.DOTALL) else repr(text[:LONGEST_SHOWN])


def _is_url(field: str) -> bool:
    return field.lower().endswith(("_url", "_backend", "_store"))


def _hidden(url: str) -> str:
    """What does not parse as a URL may still carry a password: nothing before the last @ is repeated, nothing behind a ? or a #,
    and without an @ nothing that stands where a port should."""
    found = _SCHEME.match(url)
    scheme, rest = (found[0], url[found.end() :]) if found else ("", url)
    account, at, host = rest.rpartition("@")
    if "?" in account:  # the @ may be one of an option's value
        return repr(f"{scheme}***")
    host = re.sub(r"[?#].*", "?***", host, flags=re.DOTALL)
    host = re.sub(r":(?!\d+(/\d*)?$).*", ":***", host, flags=re.DOTALL)
    return repr(f"{scheme}{'***' if account else ''}{at}{host}"[:LONGEST_SHOWN])


def _checked_label(name: str) -> str:
    if not re.fullmatch(_KEY, name):
        raise ValueError(f"{shown(name)} is not the name of a label; write for example eval-id or example.org/eval-id")
    return name
