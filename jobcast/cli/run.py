"""Runs a command: its exit code, its errors as one line each, and options that every command has."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import typer

from jobcast.cli.redis import Redis
from jobcast.cli.render.output import complain, escape, silence
from jobcast.client import ClientError
from jobcast.wire import MalformedEvent

EXIT_FAILED = 1
EXIT_WRONG_USAGE = 2
EXIT_TIMEOUT = 124
"""As timeout(1) has it."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def carry_out(
    command: Coroutine[Any, Any, int],
    redis: Redis,
    *,
    interrupted: int = EXIT_INTERRUPTED,
    timeout: float | None = None,
) -> None:
    """Run the command; an error of Redis is one line. After `timeout` seconds it is cancelled."""

    async def carried_out() -> int:
        try:
            async with asyncio.timeout(timeout):
                return await command
        except ClientError as error:
            complain(f"Redis at {redis.where}: {error}")
        except MalformedEvent as error:
            complain(str(error))
        except TimeoutError:
            complain(f"stopped after {timeout:g} s (--timeout)")
            return EXIT_TIMEOUT
        return EXIT_FAILED

    end(carried_out(), interrupted)


def end(command: Coroutine[Any, Any, int], interrupted: int = EXIT_INTERRUPTED) -> None:
    """Run the command; its result is the exit code."""
    try:
        code = asyncio.run(command)
    except KeyboardInterrupt:
        code = interrupted
    except BrokenPipeError:
        silence()  # the reader of our output has closed it
        code = 0
    raise typer.Exit(code)


def wrong(option: str, error: ValueError | str) -> typer.Exit:
    """Print the error; the exception to raise."""
    complain(f"{option}: {error}")
    return typer.Exit(EXIT_WRONG_USAGE)


def has_agreed(question: str) -> bool:
    """Whether the user at the terminal answers yes. Ctrl-C ends the command."""
    # asyncio's handler would wait for the answer.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stderr.write(f"jobcast: {escape(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
