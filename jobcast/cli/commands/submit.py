"""`jobcast submit`: creates a Job that Jobcast watches, and follows it to its end."""

import asyncio
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console

from jobcast.cli.cluster import extra, in_cluster
from jobcast.cli.follow.live import following
from jobcast.cli.follow.stored import write_stored
from jobcast.cli.options import (
    ClusterNamespace,
    Timeout,
    seconds_of,
)
from jobcast.cli.redis import Redis
from jobcast.cli.render.event import line
from jobcast.cli.render.log_screen import LiveScreen, output
from jobcast.cli.render.output import complain, print_id, print_line, write_json
from jobcast.cli.render.times import time_format
from jobcast.cli.run import EXIT_FAILED, EXIT_WRONG_USAGE, carry_out
from jobcast.client import AsyncClient, AsyncFeed
from jobcast.client.log_selector import LogSelector
from jobcast.event import Cancelled, Ended, Event, Failed, Status
from jobcast.jobs.model import Job

if TYPE_CHECKING:
    from jobcast.jobs.decode import Reading
    from jobcast.kube import Api

CONFLICT = 409

CommandLine = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- COMMAND", help="Instead of the image's own command", show_default=False),
]
Image = Annotated[str | None, typer.Option("--image", metavar="IMAGE", help="Image that the Job runs")]
File = Annotated[
    str | None, typer.Option("--file", "-f", metavar="FILE", help="A Job in YAML instead; - reads standard input")
]
EvalIdOption = Annotated[
    str | None, typer.Option("--eval-id", metavar="ID", help="Evaluation id. Default: the name of the Job")
]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Job name. Default: after the id or the image")
]
NewLabels = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="NAME=VALUE,...", help="Label of the Job; may be repeated"),
]
Env = Annotated[
    list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE", help="Environment variable; may be repeated")
]
Deadline = Annotated[
    int | None, typer.Option("--deadline", metavar="SECONDS", min=1, help="The Job fails if it takes longer")
]
Retries = Annotated[
    int | None, typer.Option("--retries", metavar="N", min=0, help="Further attempts after a failed one. Default: 0")
]
Ttl = Annotated[
    int | None,
    typer.Option("--ttl", metavar="SECONDS", min=0, help="The ended Job is deleted after this time. Default: a day"),
]
Cpu = Annotated[str | None, typer.Option("--cpu", metavar="N", help="Request and limit: 500m, 2")]
Memory = Annotated[str | None, typer.Option("--memory", metavar="N", help="Request and limit: 256Mi, 4Gi")]
User = Annotated[
    int | None, typer.Option("--user", metavar="UID", min=1, help="User that it runs as, never root. Default: 65532")
]
Detach = Annotated[bool, typer.Option("--detach", help="Print the evaluation id and exit")]


class Options(NamedTuple):
    """As given; None for what was not."""

    image: str | None
    of_image: dict[str, Any]
    """For a Job from an image; see manifest.JobOptions."""
    file: str | None
    eval_id: str | None
    name: str | None
    namespace: str | None
    labels: Sequence[str]


class Submission(NamedTuple):
    manifest: dict[str, Any]
    namespace: str | None
    """None is the context's."""
    reading: "Reading"
    is_detached: bool
    json: bool


def submit(
    command: CommandLine = None,
    image: Image = None,
    file: File = None,
    eval_id: EvalIdOption = None,
    name: Name = None,
    namespace: ClusterNamespace = None,
    label: NewLabels = None,
    env: Env = None,
    deadline: Deadline = None,
    retries: Retries = None,
    ttl: Ttl = None,
    cpu: Cpu = None,
    memory: Memory = None,
    user: User = None,
    detach: Detach = False,
    timeout: Timeout = None,
    *,
    as_json: bool,
    redis: Redis,
) -> None:
    """Create a Job that Jobcast watches, and follow it to its end.

    A Job from an image passes the Pod Security level "restricted". A Job in
    YAML is not changed except for labels: those of LABEL_SELECTOR and
    EVAL_ID_LABEL, set as for the controller. The log goes to standard output,
    all else to standard error; with -o json only the last event is printed.

    Exit code 0 if it completed, 1 if it failed or was cancelled; Ctrl-C and
    --timeout do not stop the Job. Needs the cluster, as kubectl finds it, the
    permission to create and get Jobs, list Pods and read their logs, and the
    extra jobcast\\[controller].
    """
    of_image: dict[str, Any] = {"command": command, "environment": env, "deadline": deadline, "retries": retries}
    of_image |= {"ttl": ttl, "cpu": cpu, "memory": memory, "user": user}
    given = {option: value for option, value in of_image.items() if value not in (None, [])}
    seconds = seconds_of(timeout)
    options = Options(image, given, file, eval_id, name, namespace, label or ())
    try:
        wanted = _submission(redis, options, detach, as_json)
    except ValueError as error:
        complain(str(error))
        raise typer.Exit(EXIT_WRONG_USAGE) from None
    carry_out(_submit(redis, wanted), redis, timeout=seconds)


def _submission(redis: Redis, options: Options, is_detached: bool, json: bool) -> Submission:
    """Raises ValueError, naming the option. Ends the command with code 2 if a setting is wrong."""
    with extra():
        from jobcast.cli.manifest import add_labels, check_eval_id, make_watched
        from jobcast.service.settings import CoreSettings, read, reading_of
    if options.eval_id is not None:
        check_eval_id(options.eval_id)
    settings = read(CoreSettings, redis_url=redis.url)
    manifest = _of_file(options) if options.file is not None else _of_image(options)
    add_labels(manifest, options.labels)
    make_watched(manifest, settings.label_selector, settings.eval_id_label, options.eval_id)
    own = manifest["metadata"].get("namespace")
    if options.namespace and own not in (None, options.namespace):
        raise ValueError(f"--namespace: the Job has the namespace {own!r}")
    return Submission(manifest, options.namespace or own, reading_of(settings), is_detached, json)


def _of_file(options: Options) -> dict[str, Any]:
    from jobcast.cli.manifest import job_from_yaml

    if options.image or options.name or options.of_image:
        raise ValueError("--file: it excludes the options for an image; --eval-id, --label and --namespace are allowed")
    try:
        text = sys.stdin.read() if options.file == "-" else Path(options.file or "").read_text()
    except OSError as error:
        raise ValueError(f"--file: {options.file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"--file: {options.file}: it is not text") from None
    return job_from_yaml(text)


def _of_image(options: Options) -> dict[str, Any]:
    from jobcast.cli.manifest import JobOptions, check_name, job_from_image, name_for, name_like

    if not options.image:
        raise ValueError("--image: give the image to run, or a Job in YAML with --file")
    if options.name is not None:
        check_name("--name", options.name)
    name = options.name or (
        name_for(options.eval_id) if options.eval_id else name_like(options.image, secrets.token_hex(3))
    )
    return job_from_image(JobOptions(image=options.image, name=name, **options.of_image))


async def _submit(redis: Redis, wanted: Submission) -> int:
    """The exit code of `wait`; 0 if it is not followed. Raises ClientError, BrokenPipeError."""

    async def carried_out(api: "Api") -> int:
        if wanted.is_detached:
            job = await _create(api, wanted)
            _print_created(job, wanted.json)
            return 0
        async with redis.client(redis.report_connection) as jobcast:
            await jobcast.ping()  # before there is a Job that cannot be followed
            async with jobcast.follow() as events:
                job = await _create(api, wanted)
                complain(f"created Job {job.namespace}/{job.name} for evaluation {job.eval_id!r}")
                try:
                    return await _follow(api, jobcast, job, events, wanted.json)
                except asyncio.CancelledError:
                    complain(f"the Job goes on; wait for its end with: jobcast wait {job.eval_id}")
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
            raise KubeError(f"Job {namespace}/{name} already exists; choose another --name, or delete it") from error
        raise
    for warning in warnings:
        complain(f"warning: {warning}")
    return job


def _print_created(job: Job, json: bool) -> None:
    if json:
        names = {"eval_id": job.eval_id, "namespace": job.namespace, "name": job.name, "uid": job.uid}
        write_json(msgspec.json.encode(names))
    else:
        print_id(job.eval_id)


async def _follow(api: "Api", jobcast: AsyncClient, job: Job, events: AsyncFeed[Event], json: bool) -> int:
    """Shows the log, or with `json` only the end. Raises ClientError, BrokenPipeError."""
    from jobcast.cli.follow.following import to_the_end

    out = output()
    screen = LiveScreen(out)
    logs = following(api, jobcast, job, screen, wants_log=not json)
    try:
        end = await to_the_end(logs, events)
        if json:
            write_json(events.raw)
        elif not logs.has_written and isinstance(end, Ended) and end.log.bytes:
            await write_stored(jobcast, job.eval_id, LogSelector(job=job.uid), screen)
        elif not out.size:
            _print_reason(end)
    finally:
        screen.close()
    if not json:
        errors = Console(stderr=True, highlight=False, markup=False, emoji=False)
        print_line(errors, line(end, time_format(errors)))
    return 0 if end.status is Status.COMPLETED else EXIT_FAILED


def _print_reason(end: Event) -> None:
    """What Kubernetes says of the last attempt if it printed nothing, for example a missing command."""
    if isinstance(end, Failed | Cancelled) and end.attempts and (message := end.attempts[-1].message):
        complain(f"{end.attempts[-1].pod}: {message}")
