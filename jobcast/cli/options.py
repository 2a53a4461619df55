"""Options and arguments that several commands share, each declared once, and what their values mean."""

import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from typing import Annotated, Any

import typer

from jobcast.cli.completion import evaluations
from jobcast.cli.redis import Redis
from jobcast.cli.run import wrong
from jobcast.client.live import check_statuses
from jobcast.client.position import When, duration, when
from jobcast.event import Status

_SINCE = "a duration (2h, 90s, 1d12h) or a time (2026-11-20T10:00:00Z)"


class Format(StrEnum):
    WIDE = "wide"
    JSON = "json"
    NAME = "name"


class JsonFormat(StrEnum):
    JSON = "json"


RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        metavar="URL",
        help="Redis URL that Jobcast publishes to. Default: REDIS_URL, else redis://localhost:6379/0",
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix", metavar="NAME", help="Prefix of all keys and channels. Default: KEY_PREFIX, else evaluation"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Short for -o json")]
Output = Annotated[
    JsonFormat | None, typer.Option("--output", "-o", metavar="FORMAT", help="json: JSON, one object a line")
]
TableOutput = Annotated[
    Format | None,
    typer.Option(
        "--output", "-o", metavar="FORMAT", help="wide: more columns. json: one record a line. name: ids only"
    ),
]
EvalId = Annotated[str, typer.Argument(metavar="EVAL", help="Evaluation id", autocompletion=evaluations)]
EvalIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="EVAL", help="Evaluation ids", autocompletion=evaluations, show_default=False),
]
ClusterNamespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="Default: the namespace of the kubeconfig's context"),
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="Only Jobs in this namespace; may be repeated"),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        "-l",
        metavar="NAME=VALUE,...",
        help="Only Jobs with these labels; only labels in METADATA_LABELS (pipeline) are known. May be repeated",
    ),
]
Statuses = Annotated[
    list[str] | None,
    typer.Option("--status", metavar="STATUS,...", help="Only events with this status; may be repeated"),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help=f"{_SINCE[0].upper()}{_SINCE[1:]}, or an entry id; 0 is the first"),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="DURATION", help="Stop after this time (90s, 10m) with exit code 124"),
]
Handler = Annotated[
    str | None, typer.Option("--handler", metavar="NAME", help="Name of a handler, or the last part of it")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done")]
Rate = Annotated[float, typer.Option("--rate", metavar="N", help="At most this many events per second")]


NoColor = Annotated[bool, typer.Option("--no-color", help="Do not use colors, as with NO_COLOR=1")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Add to a command the options that it shares with others, and hand it what they mean.

    All have --no-color. One that takes `redis` has --redis-url and --prefix, one that takes `as_json` has --output and --json.
    """
    signature = inspect.signature(function)
    takes_redis, takes_json = "redis" in signature.parameters, "as_json" in signature.parameters
    shared: dict[str, tuple[Any, Any]] = {}
    if takes_json:
        shared |= {"output": (Output, None), "json": (Json, False)}
    if takes_redis:
        shared |= {"redis_url": (RedisUrl, None), "prefix": (Prefix, None)}
    shared["no_color"] = (NoColor, False)

    @functools.wraps(function)
    def with_options(no_color: bool = False, **options: Any) -> None:
        if takes_json:
            output, json = options.pop("output"), options.pop("json")
            options["as_json"] = json or output is not None
        if takes_redis:
            options["redis"] = Redis.of(options.pop("redis_url"), options.pop("prefix"))
        with _no_color() if no_color else nullcontext():
            function(**options)

    own = [one for name, one in signature.parameters.items() if name not in ("redis", "as_json")]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in shared.items()
    ]
    # Typer reads both.
    with_options.__signature__ = signature.replace(parameters=own + added)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in own + added} | {"return": None}
    return with_options


@contextmanager
def _no_color() -> Iterator[None]:
    """Everything that writes reads NO_COLOR; put back, because tests run commands in their own process."""
    before = os.environ.get("NO_COLOR")
    os.environ["NO_COLOR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["NO_COLOR"]
        else:
            os.environ["NO_COLOR"] = before


def table_format(output: Format | None, json: bool) -> Format | None:
    """Ends the command with code 2 if the two options disagree."""
    if json and output not in (None, Format.JSON):
        raise wrong("--json", f"it excludes -o {output}")
    return Format.JSON if json else output


def labels_of(option: list[str] | None) -> dict[str, list[str]]:
    """Values by label. Ends the command with code 2 for anything else than NAME=VALUE."""
    labels: dict[str, list[str]] = {}
    for one in split(option):
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise wrong("--label", f"{one[:100]!r} is not NAME=VALUE")
        labels.setdefault(name, []).append(value)
    return labels


def statuses_of(option: list[str] | None) -> tuple[Status, ...]:
    """All if none is given. Ends the command with code 2 for an unknown one."""
    try:
        return check_statuses(split(option))
    except ValueError as error:
        raise wrong("--status", error) from None


def split(option: Iterable[str] | None) -> list[str]:
    """The values of a repeatable option that also takes a list with commas."""
    return [part for one in option or () for part in one.split(",")]


def when_of(option: str, text: str | None) -> When | None:
    """Ends the command with code 2 for what is not a time."""
    try:
        return when(text) if text is not None else None
    except ValueError as error:
        raise wrong(option, error) from None


def seconds_of(timeout: str | None) -> float | None:
    """Seconds; plain numbers are seconds too. Ends the command with code 2 for anything else."""
    if timeout is None:
        return None
    found = duration(timeout)
    if found is None and re.fullmatch(r"[0-9]+(\.[0-9]+)?", timeout):
        found = float(timeout)
    if found is None or not math.isfinite(found):
        raise wrong("--timeout", f"{timeout[:100]!r} is not a duration; use for example 90s, 10m or 1h30m")
    return found


def check_rate(rate: float) -> None:
    if not (math.isfinite(rate) and rate > 0):
        raise wrong("--rate", f"{rate:g} is not a number of events per second")
