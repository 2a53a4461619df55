"""The commands that talk to the cluster, and their options; what each does is in the module of its name."""

from typing import Annotated, Any

import typer

from jobcast.cli.commands import finalizers as finalizers_
from jobcast.cli.commands import submit as submit_
from jobcast.cli.redis import Redis
from jobcast.cli.render.output import complain
from jobcast.cli.usage import EXIT_WRONG_USAGE, Json, Prefix, RedisUrl, carry_out, end, wrong

Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Default: that of the kubeconfig's context")
]


def submit(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND", help="In place of the image's own", show_default=False),
    ] = None,
    image: Annotated[str | None, typer.Option("--image", metavar="IMAGE", help="What the Job runs")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE", help="A Job in YAML instead; - reads standard input")
    ] = None,
    eval_id: Annotated[
        str | None, typer.Option("--eval-id", metavar="ID", help="The evaluation's. Default: the Job's name")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The Job's. Default: after the id, or the image")
    ] = None,
    namespace: Namespace = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="NAME=VALUE", help="For example pipeline=nightly; may be repeated"),
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE", help="May be repeated")] = None,
    timeout: Annotated[
        int | None, typer.Option("--timeout", metavar="SECONDS", min=1, help="It fails when it takes longer")
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option("--retries", metavar="N", min=0, help="Further attempts after one that failed. Default: 0"),
    ] = None,
    ttl: Annotated[
        int | None,
        typer.Option(
            "--ttl", metavar="SECONDS", min=0, help="How long the ended Job is kept in the cluster. Default: a day"
        ),
    ] = None,
    cpu: Annotated[str | None, typer.Option("--cpu", metavar="N", help="Requested, and the limit: 500m, 2")] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="N", help="Requested, and the limit: 256Mi, 4Gi")
    ] = None,
    user: Annotated[
        int | None, typer.Option("--user", metavar="UID", min=1, help="Who it runs as, never root. Default: 65532")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the evaluation's id and leave; `jobcast wait` waits for it")
    ] = False,
    json: Json = False,
    redis_url: RedisUrl = None,
    prefix: Prefix = None,
) -> None:
    """Make a Job that Jobcast tells of, and follow it to its end.

    Of an image and a command the Job is made such that a namespace with the
    Pod Security level "restricted" accepts it. A Job in YAML stays as it is,
    but for labels. Labels are those of LABEL_SELECTOR and EVAL_ID_LABEL, as
    the controller has them. Its log goes to standard output, all else to
    standard error; with --json the end alone is printed.

    Exit code 0 when it completed, 1 when it failed or was cancelled; Ctrl-C
    leaves the Job alone. Needs the cluster, as kubectl finds it, there the
    right to create and get Jobs, list Pods and read their logs, and the
    extra jobcast\\[controller].
    """
    redis = Redis.of(redis_url, prefix)
    made_of: dict[str, Any] = {
        "command": command,
        "environment": env,
        "timeout": timeout,
        "ttl": ttl,
        "retries": retries,
    }
    made_of |= {"cpu": cpu, "memory": memory, "user": user}
    chosen = {option: value for option, value in made_of.items() if value not in (None, [])}
    options = submit_.Options(image, chosen, file, eval_id, name, namespace, label or (), detach, json)
    try:
        wanted = submit_.submission(redis, options)
    except ValueError as error:
        complain(str(error))
        raise typer.Exit(EXIT_WRONG_USAGE) from None
    carry_out(submit_.submit(redis, wanted), redis)


def finalizers(
    namespace: Namespace = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look in all of them")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the finalizer off each")] = False,
) -> None:
    """List the Jobs that Jobcast's finalizer holds until their end is told.

    With --remove they are let go, whatever their labels: after the setting
    FINALIZER was switched off, or Jobcast was removed. Needs the cluster, as
    kubectl finds it, and the extra jobcast\\[controller]. Exit code 1 when some
    could not be released.
    """
    if everywhere and namespace is not None:
        raise wrong("--namespace", ValueError("it excludes --all-namespaces"))
    end(finalizers_.finalizers(namespace, everywhere, remove))
