"""The commands and their options; what each does is in the module of its name."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from jobcast.cli import demo as demo_
from jobcast.cli import get as get_
from jobcast.cli import wait as wait_
from jobcast.cli import watch as watch_
from jobcast.cli.output import complain, silence
from jobcast.cli.redis import Redis
from jobcast.client import ClientError
from jobcast.client.follow import place
from jobcast.client.live import wanted
from jobcast.wire import MalformedEvent

EXIT_FAILED = 1
EXIT_WRONG_USAGE = 2
EXIT_INTERRUPTED = 130
"""128 and SIGINT, as shells count."""

app = typer.Typer(
    name="jobcast",
    help="What happens to evaluation Jobs on Kubernetes, as Jobcast tells it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show locals, and locals hold passwords
    rich_markup_mode="rich",
)

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url", metavar="URL", help="Where Jobcast tells. Default: REDIS_URL, else redis://localhost:6379/0"
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option("--prefix", metavar="NAME", help="Of every key and channel. Default: KEY_PREFIX, else evaluation"),
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON, one object a line")]
EvalId = Annotated[str, typer.Argument(metavar="EVAL", help="The evaluation's id")]


@app.command(epilog="Example: jobcast watch --status failed --since 0")
def watch(
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Only events of this status; may be repeated")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="ID", help="From the stream, after this entry: 0 is all that is kept, $ what comes"
        ),
    ] = None,
    json: Json = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Show events as they are told, until Ctrl-C.

    Without --since it listens to the live channels: what is told while the
    connection is down is not shown. With it, it reads the stream and misses
    nothing. Fails when Redis cannot be reached at the start; later it waits.
    """
    try:
        statuses = wanted(status or ())
    except ValueError as error:
        raise _wrong("--status", error) from None
    try:
        since = place(since) if since is not None else None
    except ValueError as error:
        raise _wrong("--since", error) from None
    redis = Redis.of(redis_url, prefix)
    _carry_out(watch_.watch(redis, statuses, since, json), redis, interrupted=0)  # Ctrl-C is how it ends


@app.command(epilog="Example: jobcast get eval-42 --json")
def get(eval_id: EvalId, json: Json = False, redis_url: RedisUrl = None, prefix: Prefix = None) -> None:
    """Show what was told of an evaluation last. Exit code 1 when nothing is known of it."""
    redis = Redis.of(redis_url, prefix)
    _carry_out(get_.get(redis, eval_id, json), redis)


@app.command(epilog="Example: jobcast wait eval-42 --timeout 600 && echo passed")
def wait(
    eval_id: EvalId,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Give up after so long. Default: never")
    ] = None,
    json: Json = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Wait until an evaluation has ended, or see that it has.

    Exit code 0 when it completed, 1 when it failed or was cancelled, 124 when
    it had not ended in time. One that nobody knows yet is waited for.
    """
    if timeout is not None and not (math.isfinite(timeout) and timeout >= 0):
        raise _wrong("--timeout", ValueError(f"{timeout:g} is not a number of seconds"))
    redis = Redis.of(redis_url, prefix)
    _carry_out(wait_.wait(redis, eval_id, timeout, json), redis)


@app.command(epilog="Example: jobcast demo")
def demo() -> None:
    """Run a handful of evaluation Jobs on this machine and tell of them. Needs a checkout of Jobcast."""
    raise typer.Exit(demo_.run())


def run() -> None:
    app()


def _carry_out(command: Coroutine[Any, Any, int], redis: Redis, interrupted: int = EXIT_INTERRUPTED) -> None:
    try:
        code = asyncio.run(command)
    except KeyboardInterrupt:
        code = interrupted
    except BrokenPipeError:
        silence()  # whoever read our output has had enough
        code = 0
    except ClientError as error:
        complain(f"Redis at {redis.where}: {error}")
        code = EXIT_FAILED
    except MalformedEvent as error:
        complain(str(error))
        code = EXIT_FAILED
    raise typer.Exit(code)


def _wrong(option: str, error: ValueError) -> typer.Exit:
    complain(f"{option}: {error}")
    return typer.Exit(EXIT_WRONG_USAGE)
