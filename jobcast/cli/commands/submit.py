"""`jobcast submit`: makes a Job that Jobcast tells of, and follows it to its end."""

import asyncio
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from rich.console import Console

from jobcast.cli.cluster import extra, in_cluster
from jobcast.cli.commands import logs
from jobcast.cli.commands.wait import EXIT_NOT_COMPLETED
from jobcast.cli.redis import Redis
from jobcast.cli.render.event import line
from jobcast.cli.render.log_screen import LiveScreen, output
from jobcast.cli.render.output import complain, print_line, write_json
from jobcast.client import AsyncClient, AsyncFeed
from jobcast.client.log_selector import LogSelector
from jobcast.event import Cancelled, Ended, Event, Failed, Status
from jobcast.jobs.model import Job

if TYPE_CHECKING:
    from jobcast.jobs.decode import Reading
    from jobcast.kube import Api

CONFLICT = 409


class Options(NamedTuple):
    """As they were given; None for what was not."""

    image: str | None
    chosen: dict[str, Any]
    """Of what a Job is made of an image; see manifest.Wish."""
    file: str | None
    eval_id: str | None
    name: str | None
    namespace: str | None
    labels: Sequence[str]
    is_detached: bool
    json: bool


class Submission(NamedTuple):
    manifest: dict[str, Any]
    namespace: str | None
    """None is the context's."""
    reading: "Reading"
    is_detached: bool
    json: bool


def submission(redis: Redis, options: Options) -> Submission:
    """What is to be done. Raises ValueError, naming the option. Ends the command with code 2 where a setting is wrong."""
    with extra():
        from jobcast.cli.manifest import check_eval_id, label, labelled
        from jobcast.service.settings import CoreSettings, read, reading_of
    if options.eval_id is not None:
        check_eval_id(options.eval_id)
    settings = read(CoreSettings, redis_url=redis.url)
    manifest = _of_file(options) if options.file is not None else _of_image(options)
    label(manifest, options.labels)
    labelled(manifest, settings.label_selector, settings.eval_id_label, options.eval_id)
    own = manifest["metadata"].get("namespace")
    if options.namespace and own not in (None, options.namespace):
        raise ValueError(f"--namespace: the Job says {own!r} itself")
    return Submission(manifest, options.namespace or own, reading_of(settings), options.is_detached, options.json)


def _of_file(options: Options) -> dict[str, Any]:
    from jobcast.cli.manifest import given

    if options.image or options.name or options.chosen:
        raise ValueError(
            "--file: a Job in YAML says itself what runs, and how; --eval-id, --label and --namespace may go with it"
        )
    try:
        text = sys.stdin.read() if options.file == "-" else Path(options.file or "").read_text()
    except OSError as error:
        raise ValueError(f"--file: {options.file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"--file: {options.file}: it is no text") from None
    return given(text)


def _of_image(options: Options) -> dict[str, Any]:
    from jobcast.cli.manifest import Wish, check_name, made, name_for, name_like

    if not options.image:
        raise ValueError("--image: it must say what to run, or --file name a Job in YAML")
    if options.name is not None:
        check_name("--name", options.name)
    name = options.name or (
        name_for(options.eval_id) if options.eval_id else name_like(options.image, secrets.token_hex(3))
    )
    return made(Wish(image=options.image, name=name, **options.chosen))


async def submit(redis: Redis, wanted: Submission) -> int:
    """The exit code of `wait`; 0 for one that is not followed. Raises ClientError, BrokenPipeError."""

    async def carried_out(api: "Api") -> int:
        if wanted.is_detached:
            job = await _create(api, wanted)
            _show_created(job, wanted.json)
            return 0
        async with redis.client(redis.report_connection) as jobcast:
            await jobcast.ping()  # before there is a Job that nobody would follow
            async with jobcast.follow() as told:
                job = await _create(api, wanted)
                complain(f"created Job {job.namespace}/{job.name} for evaluation {job.eval_id!r}")
                try:
                    return await _see_through(api, jobcast, redis, job, told, wanted.json)
                except asyncio.CancelledError:
                    complain(f"the Job goes on; its end: jobcast wait {job.eval_id}")
                    raise

    return await in_cluster(carried_out, wanted.reading)


async def _create(api: "Api", wanted: Submission) -> Job:
    """Raises KubeError."""
    from jobcast.kube import KubeError

    namespace = wanted.namespace or api.access.namespace
    try:
        job, warnings = await api.create(namespace, wanted.manifest)
    except KubeError as error:
        if error.code == CONFLICT and error.reason == "AlreadyExists":
            name = wanted.manifest["metadata"].get("name")
            raise KubeError(
                f"there is a Job {namespace}/{name} already; choose another --name, or delete it"
            ) from error
        raise
    for warning in warnings:
        complain(f"warning: {warning}")
    return job


def _show_created(job: Job, json: bool) -> None:
    if json:
        write_json(
            msgspec.json.encode({"eval_id": job.eval_id, "namespace": job.namespace, "name": job.name, "uid": job.uid})
        )
    else:
        write_json(job.eval_id.encode())


async def _see_through(
    api: "Api", jobcast: AsyncClient, redis: Redis, job: Job, told: AsyncFeed[Event], json: bool
) -> int:
    """Shows its log, or with `json` its end alone. Raises ClientError, BrokenPipeError."""
    from jobcast.cli.follow.following import Following, to_the_end

    out = output()
    screen = LiveScreen(out)
    following = Following(api, jobcast, job, screen, wants_log=not json)
    try:
        end = await to_the_end(following, told)
    finally:
        screen.close()
    if json:
        write_json(told.raw)
    else:
        if not following.has_written and isinstance(end, Ended) and end.log.bytes:
            await logs.logs(redis, job.eval_id, LogSelector(job=job.uid), raw=False)
        elif not out.size:
            _say_why(end)
        print_line(Console(stderr=True, highlight=False, markup=False, emoji=False), line(end))
    return 0 if end.status is Status.COMPLETED else EXIT_NOT_COMPLETED


def _say_why(end: Event) -> None:
    """What Kubernetes says of the last attempt, where that could say nothing itself: its command is not there, for one."""
    if isinstance(end, Failed | Cancelled) and end.attempts and (message := end.attempts[-1].message):
        complain(f"{end.attempts[-1].pod}: {message}")
