"""`jobcast logs`: the exact bytes of a log, or the available part; with --follow while it is written."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from jobcast.cli.follow.labels import open_evaluations
from jobcast.cli.follow.live import follow_evaluation
from jobcast.cli.follow.stored import write_stored
from jobcast.cli.options import EvalIds, Labels, Namespaces, Timeout, seconds_of
from jobcast.cli.redis import Redis
from jobcast.cli.render.log_screen import LiveScreen, PrefixedScreen, output
from jobcast.cli.render.output import complain
from jobcast.cli.run import EXIT_FAILED, carry_out, wrong
from jobcast.cli.selection import Selection, selected, selection
from jobcast.client.log_selector import LogSelector

MOST_FOLLOWED = 50
"""Evaluations with --follow: each needs a connection to Redis and one to the cluster."""

AttemptNumber = Annotated[
    int | None,
    typer.Option("--attempt", metavar="N", min=1, help="As `jobcast get` numbers them. Default: the deciding one"),
]
Container = Annotated[
    str | None, typer.Option("--container", "-c", metavar="NAME", help="Default: the one that decided the attempt")
]
InstanceNumber = Annotated[
    int | None,
    typer.Option("--instance", metavar="K", min=0, help="After K restarts of the container. Default: the last"),
]
JobName = Annotated[
    str | None, typer.Option("--job", metavar="NAME|UID", help="One of the evaluation's Jobs. Default: the newest")
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Follow the log from the latest attempt on, until the evaluation ends")
]
PodPrefix = Annotated[
    bool | None,
    typer.Option(
        "--pod-prefix/--no-pod-prefix",
        help="Begin each line with its Pod and index. Default: with several Pods or evaluations",
        show_default=False,
    ),
]
Raw = Annotated[bool, typer.Option("--raw", help="Do not escape control characters at a terminal")]


class View(NamedTuple):
    """How logs are shown."""

    raw: bool
    has_prefix: bool | None
    """None: only to tell several apart."""


def logs(
    evaluations: EvalIds = None,
    namespace: Namespaces = None,
    label: Labels = None,
    attempt: AttemptNumber = None,
    container: Container = None,
    instance: InstanceNumber = None,
    job: JobName = None,
    follow: Follow = False,
    pod_prefix: PodPrefix = None,
    raw: Raw = False,
    timeout: Timeout = None,
    *,
    redis: Redis,
) -> None:
    """Write the log of an evaluation, byte for byte.

    At a terminal, control characters are escaped. Exit code 0 if the log is
    complete; 1, with the reason, if it is kept in part or not at all: then the
    event's excerpt is shown.

    With --follow the log is read from the cluster while the container runs
    (needs the extra jobcast\\[controller]), then that of the next attempt. All
    Pods of an Indexed or parallel Job are followed at once. An unknown
    evaluation is waited for. --follow --label selects open Jobs in the cluster
    by any of their labels.
    """
    chosen, which = selection(evaluations, label, namespace), LogSelector(attempt, container, instance, job)
    if follow and which != LogSelector():
        raise wrong("--follow", "it shows all attempts from the latest on; it excludes the options that choose one")
    if job is not None and not chosen.is_one:
        raise wrong("--job", "it needs exactly one evaluation id")
    seconds = seconds_of(timeout)
    view = View(raw, pod_prefix)
    command = _follow(redis, chosen, view) if follow else _stored(redis, chosen, which, view)
    carry_out(command, redis, timeout=seconds)


async def _stored(redis: Redis, chosen: Selection, which: LogSelector, view: View) -> int:
    """Raises ClientError, BrokenPipeError."""
    async with redis.client() as jobcast:
        ids = await selected(jobcast, chosen)
        screen, code = LiveScreen(output(view.raw)), 0
        has_prefix = len(ids) > 1 if view.has_prefix is None else view.has_prefix
        for eval_id in ids:
            one = PrefixedScreen(screen, eval_id) if has_prefix else screen
            code |= await write_stored(jobcast, eval_id, which, one)
    return EXIT_FAILED if not ids or len(ids) < len(chosen.ids) else code


async def _follow(redis: Redis, chosen: Selection, view: View) -> int:
    """Raises ClientError, BrokenPipeError."""
    async with redis.client(redis.report_connection) as jobcast:
        await jobcast.ping()
        ids = await selected(jobcast, chosen) if chosen.ids else await open_evaluations(redis, chosen)
        if len(ids) > MOST_FOLLOWED:
            complain(f"--follow: {len(ids)} evaluations match; at most {MOST_FOLLOWED} can be followed")
            return EXIT_FAILED
        screen = LiveScreen(output(view.raw))
        has_prefix = True if len(ids) > 1 and view.has_prefix is None else view.has_prefix
        try:
            codes = await _all([follow_evaluation(jobcast, one, screen, has_prefix) for one in ids])
        finally:
            screen.close()
    return EXIT_FAILED if not ids or len(ids) < len(chosen.ids) else max(codes)


async def _all(followed: Sequence[Coroutine[Any, Any, int]]) -> list[int]:
    """The results; the first error ends all."""
    tasks = [asyncio.create_task(one, name="follow") for one in followed]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
