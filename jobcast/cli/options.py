"""Options and arguments that several commands share, each declared once, and what their values mean."""

import math
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from jobcast.cli.completion import evaluations
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


def wants_json(output: JsonFormat | None, json: bool) -> bool:
    return json or output is not None


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
