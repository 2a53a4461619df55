"""The commands and their options; what each does is in the module of its name."""

import math
from typing import Annotated

import typer

from jobcast import __version__
from jobcast.cli.commands import demo as demo_
from jobcast.cli.commands import get as get_
from jobcast.cli.commands import logs as logs_
from jobcast.cli.commands import wait as wait_
from jobcast.cli.commands import watch as watch_
from jobcast.cli.commands.doctor import doctor
from jobcast.cli.jobs import finalizers, submit
from jobcast.cli.operators import dead, lag, replay
from jobcast.cli.redis import Redis
from jobcast.cli.usage import EvalId, Json, Prefix, RedisUrl, carry_out, wrong
from jobcast.client.group import END_OF_STREAM
from jobcast.client.live import check_statuses
from jobcast.client.log_selector import LogSelector
from jobcast.client.position import when
from jobcast.filters import Filter, filter_of

app = typer.Typer(
    name="jobcast",
    help="What happens to evaluation Jobs on Kubernetes, as Jobcast tells it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show locals, and locals hold passwords
    rich_markup_mode="rich",
)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"jobcast {__version__}")  # noqa: T201 - the answer
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: jobcast watch --status failed --label pipeline=nightly --since 2h")
def watch(
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Only events of this status; may be repeated")
    ] = None,
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", metavar="NAME", help="Only of Jobs there; may be repeated")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            "-l",
            metavar="NAME=VALUE",
            help="Only of Jobs with this label, of those that METADATA_LABELS lists (pipeline); may be repeated",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help="From the stream: what was told since then (2h, 90s, 2026-11-20T10:00:00Z) or after this entry; 0 is all"
            " that is kept, $ what comes",
        ),
    ] = None,
    json: Json = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Show events as they are told, until Ctrl-C.

    At a terminal it is a table, one row an evaluation, the latest change
    first; elsewhere a line for each event.

    Without --since, lines come from the live channels: what is told while the
    connection is down is not shown. With it, and in the table, the stream is
    read and nothing missed. The progress of Jobs between their events is live
    only, and not shown with --status. Fails when Redis cannot be reached at
    the start; later it waits.
    """
    meant = _filter(status, namespace, label)
    try:
        begin = when(since) if since not in (None, END_OF_STREAM) else since
    except ValueError as error:
        raise wrong("--since", error) from None
    redis = Redis.of(redis_url, prefix)
    wish = watch_.Wanted(meant, begin, progress=not status)
    carry_out(watch_.watch(redis, wish, json), redis, interrupted=0)  # Ctrl-C is how it ends


def _filter(status: list[str] | None, namespace: list[str] | None, label: list[str] | None) -> Filter:
    """Ends the command with code 2 and a line when an option cannot be meant."""
    labels: dict[str, list[str]] = {}
    for one in label or ():
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise wrong("--label", f"{one[:100]!r} is not NAME=VALUE")
        labels.setdefault(name, []).append(value)
    try:
        statuses = check_statuses(status or ())
    except ValueError as error:
        raise wrong("--status", error) from None
    try:
        return filter_of(statuses, labels, namespace or None)
    except ValueError as error:
        raise wrong("--namespace", error) from None


@app.command(epilog="Example: jobcast get eval-42 --json")
def get(eval_id: EvalId, json: Json = False, redis_url: RedisUrl = None, prefix: Prefix = None) -> None:
    """Show how an evaluation stands and went. Exit code 1 when nothing is known of it."""
    redis = Redis.of(redis_url, prefix)
    carry_out(get_.get(redis, eval_id, json), redis)


@app.command(epilog="Example: jobcast logs eval-42 > eval-42.log")
def logs(
    eval_id: EvalId,
    attempt: Annotated[
        int | None,
        typer.Option(
            "--attempt", metavar="N", min=1, help="As `jobcast get` counts them. Default: the one that decided"
        ),
    ] = None,
    container: Annotated[
        str | None, typer.Option("--container", metavar="NAME", help="Default: the one that decided the attempt")
    ] = None,
    instance: Annotated[
        int | None,
        typer.Option("--instance", metavar="K", min=0, help="After K restarts of the container. Default: the last"),
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="NAME|UID", help="One of the evaluation's Jobs. Default: the newest")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="While it is printed, from the latest attempt on, to the evaluation's end"),
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as they are, at a terminal too")] = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Write the log of an evaluation, byte for byte.

    At a terminal, what would move it is taken out or shown as escapes. Exit
    code 0 when all of it was written; 1, with a line that says why, when it
    is kept in part or not at all: then the event's excerpt stands in for it.

    With --follow it is read from the cluster, as kubectl finds it, while the
    container runs (needs the extra jobcast\\[controller]), then the next
    attempt's, and what is missing in the end from the log store. One that
    nobody knows yet is waited for.
    """
    which = LogSelector(attempt, container, instance, job)
    if follow and which != LogSelector():
        raise wrong("--follow", ValueError("it shows every attempt from the latest on, and cannot be told which"))
    redis = Redis.of(redis_url, prefix)
    carry_out(logs_.follow(redis, eval_id, raw) if follow else logs_.logs(redis, eval_id, which, raw), redis)


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
        raise wrong("--timeout", ValueError(f"{timeout:g} is not a number of seconds"))
    redis = Redis.of(redis_url, prefix)
    carry_out(wait_.wait(redis, eval_id, timeout, json), redis)


@app.command(epilog="Example: jobcast demo")
def demo() -> None:
    """Run a handful of evaluation Jobs on this machine and tell of them. Needs a checkout of Jobcast."""
    raise typer.Exit(demo_.run())


app.command(
    epilog="Example: jobcast submit --image busybox --eval-id eval-42 -- sh -c 'echo hi'",
    context_settings={"allow_interspersed_args": False},  # what follows the command is the command's
)(submit)
app.command(epilog="Example: jobcast doctor --namespace evals || echo something is broken")(doctor)
app.command(epilog="Example: jobcast finalizers --namespace evals --remove")(finalizers)
app.command(epilog="Example: jobcast replay --since 2h --status failed --handler score --dry-run")(replay)
app.command(epilog="Example: jobcast lag --max 1000 || echo somebody is behind")(lag)
app.add_typer(dead, name="dead")


def run() -> None:
    app()
