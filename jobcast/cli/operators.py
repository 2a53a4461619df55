"""The commands for whoever runs the worker, and their options; what each does is in the module of its name."""

import math
import re
from typing import Annotated

import typer

from jobcast.cli.commands import dead as dead_
from jobcast.cli.commands import lag as lag_
from jobcast.cli.commands import replay as replay_
from jobcast.cli.redis import Redis
from jobcast.cli.usage import Json, Prefix, RedisUrl, carry_out, wrong
from jobcast.client.live import check_statuses
from jobcast.client.position import When, when

dead = typer.Typer(help="Events that a handler gave up on: look at them, replay them, drop them.", no_args_is_help=True)

_LETTER = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_SINCE = "How long ago (2h, 90s, 1d12h), a time (2026-11-20T10:00:00Z), or the id of an entry; 0 is the first one kept"

Letters = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `jobcast dead list` shows them")]
Handler = Annotated[str | None, typer.Option("--handler", metavar="NAME", help="Its full name, or the last part of it")]
Since = Annotated[str | None, typer.Option("--since", metavar="WHEN", help=_SINCE)]
All = Annotated[bool, typer.Option("--all", help="All of them, or all that --handler and --since leave")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing")]
Rate = Annotated[float, typer.Option("--rate", metavar="N", help="Events a second, at most")]


@dead.command("list", epilog="Example: jobcast dead list --handler score --since 2h")
def dead_list(
    handler: Handler = None,
    since: Since = None,
    json: Json = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """List the dead letters, the oldest first: id, time, handler, event, tries, error."""
    moment = _when("--since", since)
    redis = Redis.of(redis_url, prefix)
    carry_out(dead_.list_(redis, dead_.Filter(handler, moment), json), redis)


@dead.command("show", epilog="Example: jobcast dead show 1795168800000-0")
def dead_show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="As `jobcast dead list` shows it")],
    json: Json = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Show a dead letter with its traceback. Exit code 1 when there is none of that id."""
    _check_letters([letter])
    redis = Redis.of(redis_url, prefix)
    carry_out(dead_.show(redis, letter, json), redis)


@dead.command("replay", epilog="Example: jobcast dead replay --all --handler score --dry-run")
def dead_replay(
    letters: Letters = None,
    everything: All = False,
    handler: Handler = None,
    since: Since = None,
    dry_run: DryRun = False,
    rate: Rate = 100.0,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Hand events to the handlers that gave them up, once more, and take their letters away.

    Only the handler that a letter names has its event again. A letter that is
    no event, or whose handler no worker has now, stays, is said, and makes the
    exit code 1. Doing it twice is harmless: the letter is gone then.
    """
    moment = _checked_choice(letters, everything, handler, since)
    _check_rate(rate)
    redis = Redis.of(redis_url, prefix)
    carry_out(dead_.replay(redis, letters or [], dead_.Filter(handler, moment), rate, dry_run), redis)


@dead.command("drop", epilog="Example: jobcast dead drop --all --handler score --yes")
def dead_drop(
    letters: Letters = None,
    everything: All = False,
    handler: Handler = None,
    since: Since = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Throw dead letters away for good.

    Asks before it does, and where nobody can be asked it needs --yes.
    """
    moment = _checked_choice(letters, everything, handler, since)
    if not yes and not dead_.can_ask():
        raise wrong("--yes", "it is needed where there is no terminal to ask at")
    redis = Redis.of(redis_url, prefix)
    carry_out(dead_.drop(redis, letters or [], dead_.Filter(handler, moment), yes), redis)


def replay(
    evaluations: Annotated[
        list[str] | None, typer.Argument(metavar="EVAL", help="All that is kept of these evaluations")
    ] = None,
    since: Since = None,
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Likewise. Default: now")] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Only events of this status; may be repeated")
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option("--handler", metavar="NAME", help="Only to this one: its full name, or the last part of it"),
    ] = None,
    evaluation: Annotated[
        list[str] | None, typer.Option("--eval", metavar="EVAL", help="Only of this evaluation; may be repeated")
    ] = None,
    dry_run: DryRun = False,
    rate: Rate = 100.0,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Hand events to the worker's handlers once more, with the ids they had.

    Either those of a time, with --since, or those of the evaluations named;
    of one that the stream has no more, the latest event. Subscribers hear
    nothing of it. A --handler must be one that a worker has now (`jobcast
    lag` lists them). After Ctrl-C it says how to go on.
    """
    if (since is None) == (not evaluations):
        raise wrong("--since", "give it, or the evaluations that are to be replayed; one of the two")
    if evaluations and (until is not None or evaluation):
        raise wrong("--until" if until is not None else "--eval", "it goes with --since")
    first, last = _when("--since", since), _when("--until", until)
    try:
        statuses = frozenset(check_statuses(status or ()))
    except ValueError as error:
        raise wrong("--status", error) from None
    _check_rate(rate)
    wish = replay_.Wish(first, last, statuses, tuple(evaluations or evaluation or ()), handler, dry_run, rate)
    redis = Redis.of(redis_url, prefix)
    carry_out(replay_.replay(redis, wish), redis)


def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C")] = False,
    most: Annotated[
        int | None, typer.Option("--max", metavar="N", min=0, help="Exit code 1 when a group is further behind")
    ] = None,
    json: Json = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Show how far behind the consumer groups are, and the handlers' dead letters.

    A group is behind by what it has not read (unread) and what it has not
    acknowledged (pending). One of which nothing was heard for a day is dead:
    the stream's trimming does not wait for it.
    """
    if watch and most is not None:
        raise wrong("--max", "it excludes --watch")
    redis = Redis.of(redis_url, prefix)
    if watch:
        carry_out(lag_.watch(redis, json), redis, interrupted=0)  # Ctrl-C is how it ends
    else:
        carry_out(lag_.lag(redis, json, most), redis)


def _when(option: str, text: str | None) -> When | None:
    try:
        return when(text) if text is not None else None
    except ValueError as error:
        raise wrong(option, error) from None


def _checked_choice(letters: list[str] | None, everything: bool, handler: str | None, since: str | None) -> When | None:
    """Either letters, or all of them; what --since says."""
    if bool(letters) == everything:
        raise wrong("--all", "give it, or the ids of letters; one of the two")
    if letters and (handler is not None or since is not None):
        raise wrong("--handler" if handler is not None else "--since", "it goes with --all")
    _check_letters(letters or [])
    return _when("--since", since)


def _check_letters(letters: list[str]) -> None:
    for letter in letters:
        if not _LETTER.fullmatch(letter):
            raise wrong("ID", f"{letter!r} is not a letter's id, which looks like 1795168800000-0")


def _check_rate(rate: float) -> None:
    if not (math.isfinite(rate) and rate > 0):
        raise wrong("--rate", f"{rate:g} is not a number of events a second")
