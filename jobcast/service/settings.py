"""Settings that every deployable shares, and how wrong ones are told. The environment is read when asked, never at import.

A setting's environment name is its field in capitals. Exit code 2 and one line per wrong setting: its name, what was
given, what would be right. Secrets are never repeated.
"""

import ipaddress
import os
import re
import sys
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobcast.jobs.decode import Reading
from jobcast.keys import DEFAULT_PREFIX
from jobcast.logstore import check_store
from jobcast.redis.connection import check_options, check_url

EXIT_FAILED = 1
EXIT_WRONG_SETTINGS = 2
ALL_NAMESPACES = "*"
LONGEST_SHOWN = 100
"""Characters of what was given: enough to know it again."""
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

S = TypeVar("S", bound=BaseSettings)
RedisUrl = Annotated[str, AfterValidator(check_url), AfterValidator(check_options)]
LogStore = Annotated[str, AfterValidator(check_store)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class CoreSettings(BaseSettings):
    """What controller and worker both need to find the Jobs and to tell of them."""

    model_config = SettingsConfigDict(
        env_file=None, extra="ignore", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True
    )

    redis_url: RedisUrl = Field(
        "redis://localhost:6379/0",
        repr=False,
        description="Where it is told: `redis://host:port/db`, `redis+sentinel://host:port,host:port/service/db` or"
        " `redis+cluster://host:port,host:port`; `rediss` for TLS",
    )
    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma list; `*` is all (needs a ClusterRole). Default: the Pod's own, else the context's"
    )
    label_selector: str = Field("app=evaluation", description="Which Jobs; evaluated by the API server")
    eval_id_label: str = Field(
        "eval-id", description="Label, else annotation, of the Job that carries the evaluation's id"
    )
    metadata_labels: Annotated[tuple[str, ...], NoDecode] = Field(
        ("pipeline",), description="Comma list of the Job's labels that are copied into an event's `metadata`"
    )
    key_prefix: str = Field(
        DEFAULT_PREFIX, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Of every key and channel in Redis"
    )
    http_host: str = Field("0.0.0.0", description="Address that probes and metrics are served on")  # noqa: S104 - a Pod
    log_excerpt_bytes: int = Field(
        65_536, ge=256, le=16_777_216, description="Longest `output` of an event, head and tail together"
    )
    log_store: LogStore = Field(
        "redis",
        description="Where whole logs go: `redis`, `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…`"
        " ([log stores](log-stores.md)); `none` keeps the excerpt in the event and nothing else",
    )
    log_store_limit_bytes: int = Field(
        1_048_576,
        ge=1024,
        le=268_435_456,
        description="Longest log that Redis is given; a longer one is cut and said to be",
    )
    log_containers: Literal["main", "all"] = Field(
        "main",
        description="Whose logs are read: `main` is the main container's, and of an attempt that failed all others' too; "
        "`all` is every container's of every attempt",
    )
    log_wait_seconds: Seconds = Field(10, description="The longest that a terminal event waits for its log")
    log_concurrency: int = Field(16, ge=1, le=1024, description="Simultaneous log reads")
    finalizer: bool = Field(
        False,
        description="Hold each Job by a finalizer until its end is recorded; needs `patch` on Jobs"
        " ([finalizer](finalizer.md))",
    )
    finalizer_max_seconds: float = Field(
        300, ge=1, le=86_400, description="The longest that a Job in deletion is held while Redis is away"
    )
    retention_seconds: int = Field(
        604_800, ge=60, le=31_536_000, description="Records and ledger rows are kept so long after the end"
    )
    stream_max_seconds: int = Field(604_800, ge=60, le=31_536_000, description="The stream is trimmed by age,")
    stream_max_length: int = Field(
        1_000_000,
        ge=1000,
        le=1_000_000_000,
        description="and by length, both without what a living consumer group has not acknowledged yet",
    )
    grace_seconds: Seconds = Field(25, description="From SIGTERM to the last exit; keep it below the Pod's")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line written")
    log_format: Literal["json", "console"] | None = Field(
        None, description="`json`, or `console` for people. Default: `console` on a terminal"
    )

    @field_validator("namespaces", "metadata_labels", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

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
    """What somebody gave, for a message: in one line, not too long, and without what is secret in a URL."""
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
