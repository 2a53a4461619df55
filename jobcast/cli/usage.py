"""What the commands have in common: options, and how they end."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from jobcast.cli.completion import evaluations
from jobcast.cli.redis import Redis
from jobcast.cli.render.output import complain, escape, silence
from jobcast.client import ClientError
from jobcast.wire import MalformedEvent

EXIT_FAILED = 1
EXIT_WRONG_USAGE = 2
EXIT_INTERRUPTED = 130
"""128 and SIGINT, as shells count."""

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
EvalId = Annotated[str, typer.Argument(metavar="EVAL", help="The evaluation's id", autocompletion=evaluations)]


def carry_out(command: Coroutine[Any, Any, int], redis: Redis, interrupted: int = EXIT_INTERRUPTED) -> None:
    """Run it to its end; what Redis did to it is a line."""

    async def carried_out() -> int:
        try:
            return await command
        except ClientError as error:
            complain(f"Redis at {redis.where}: {error}")
        except MalformedEvent as error:
            complain(str(error))
        return EXIT_FAILED

    end(carried_out(), interrupted)


def end(command: Coroutine[Any, Any, int], interrupted: int = EXIT_INTERRUPTED) -> None:
    """Run it to its end; its result is the exit code."""
    try:
        code = asyncio.run(command)
    except KeyboardInterrupt:
        code = interrupted
    except BrokenPipeError:
        silence()  # whoever read our output has had enough
        code = 0
    raise typer.Exit(code)


def wrong(option: str, error: ValueError | str) -> typer.Exit:
    complain(f"{option}: {error}")
    return typer.Exit(EXIT_WRONG_USAGE)


def has_agreed(question: str) -> bool:
    """Whether the person at the terminal says yes. Ctrl-C ends the command."""
    # asyncio would have it wait for the answer.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stderr.write(f"jobcast: {escape(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
