"""One evaluation's logs until its end: from the cluster, else from the log store once it has ended."""

import asyncio
from typing import TYPE_CHECKING

import typer

from jobcast.cli.cluster import in_cluster
from jobcast.cli.follow.screen import Screen
from jobcast.cli.follow.stored import write_stored
from jobcast.cli.render.log_screen import LiveScreen, PrefixedScreen
from jobcast.cli.render.output import complain
from jobcast.cli.run import EXIT_FAILED
from jobcast.client import AsyncClient, AsyncFeed, Record
from jobcast.client.log_selector import LogSelector
from jobcast.event import Event
from jobcast.jobs.model import Job

if TYPE_CHECKING:
    from jobcast.cli.follow.following import Following
    from jobcast.kube import Api

KNOWN_SECONDS = 0.5
"""Between reads of the record of an unknown evaluation."""


async def follow_evaluation(jobcast: AsyncClient, eval_id: str, screen: LiveScreen, has_prefix: bool | None) -> int:
    """The exit code: 1 if something is missing. `has_prefix` None: only if Pods run in parallel. Raises as `write_stored`."""
    async with jobcast.follow() as events:  # before the record is read: the end is in one of them
        record = await _known(jobcast, eval_id)
        code = None if record.is_ended else await _follow(jobcast, record, events, screen, has_prefix)
    if code is not None:
        return code
    stored: Screen = PrefixedScreen(screen, eval_id) if has_prefix else screen
    return await write_stored(jobcast, eval_id, LogSelector(job=record.uid), stored)


def following(
    api: "Api",
    jobcast: AsyncClient,
    job: Job,
    screen: LiveScreen,
    *,
    has_prefix: bool | None = None,
    from_now: bool = False,
    wants_log: bool = True,
) -> "Following":
    """With lines labelled by Pod and index if several logs are shown at once."""
    from jobcast.cli.follow.following import Following, is_parallel
    from jobcast.cli.follow.instances import Instance

    def labelled(instance: Instance) -> PrefixedScreen:
        index = "" if instance.completion_index is None else f"/{instance.completion_index}"
        return PrefixedScreen(screen, "" if has_prefix is False else f"{instance.pod}{index}")

    screen_for = labelled if has_prefix or is_parallel(job) else None
    return Following(api, jobcast, job, screen, screen_for=screen_for, from_now=from_now, wants_log=wants_log)


async def _known(jobcast: AsyncClient, eval_id: str) -> Record:
    """The record, once there is one. Raises ClientError."""
    is_said = False
    while (record := await jobcast.get(eval_id)) is None:
        if not is_said:
            complain(f"evaluation {eval_id!r} not found yet; waiting for it")
            is_said = True
        await asyncio.sleep(KNOWN_SECONDS)
    return record


async def _follow(
    jobcast: AsyncClient, record: Record, events: AsyncFeed[Event], screen: LiveScreen, has_prefix: bool | None
) -> int | None:
    """The exit code; None if nothing was written until the end, so that the stored log is all there is."""
    has_ended = has_written = False

    async def followed(api: "Api") -> int:
        nonlocal has_ended, has_written
        from jobcast.cli.follow.following import to_the_end

        job = await api.job(record.namespace, record.name)
        if job is None or job.uid != record.uid:
            return 0
        logs = following(api, jobcast, job, screen, has_prefix=has_prefix, from_now=True)
        try:
            await to_the_end(logs, events)
        finally:
            screen.clear_status()
        has_ended, has_written = True, logs.has_written
        return 0 if logs.is_whole else EXIT_FAILED

    try:
        code = await in_cluster(followed)
    except typer.Exit:
        code = 0
    if code == EXIT_FAILED or has_written:
        return code
    if not has_ended:
        complain("it cannot be followed; its stored log is shown when it has ended")
        await jobcast.wait(record.eval_id)
    return None
