"""`jobcast finalizers`: lists the Jobs that our finalizer holds, and releases them without a controller."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from jobcast.cli.cluster import in_cluster
from jobcast.cli.options import ClusterNamespace
from jobcast.cli.render.output import complain, console, escape, print_line
from jobcast.cli.run import EXIT_FAILED, end, wrong
from jobcast.jobs.model import FINALIZER, Job

if TYPE_CHECKING:
    from jobcast.kube import Api

AT_ONCE = 8
"""Simultaneous releases: thousands take seconds, without overloading the API server."""


AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look in all namespaces")]
Remove = Annotated[bool, typer.Option("--remove", help="Remove the finalizer from each Job")]


def finalizers(namespace: ClusterNamespace = None, everywhere: AllNamespaces = False, remove: Remove = False) -> None:
    """List the Jobs that Jobcast's finalizer holds until their end is published.

    With --remove they are released, whatever their labels: after the setting
    FINALIZER was switched off, or Jobcast was uninstalled. Needs the cluster,
    as kubectl finds it, and the extra jobcast\\[controller]. Exit code 1 if
    some could not be released.
    """
    if everywhere and namespace is not None:
        raise wrong("--namespace", "it excludes --all-namespaces")
    end(_finalizers(namespace, everywhere, remove))


async def _finalizers(namespace: str | None, everywhere: bool, remove: bool) -> int:
    """Lists them; with `remove` removes the finalizer from each. No namespace is the context's."""

    async def carried_out(api: "Api") -> int:
        where = None if everywhere else namespace or api.access.namespace
        held = await _held(api, where)
        failed = await _release(api, held) if remove else 0
        scope = "all namespaces" if where is None else f"namespace {where}"
        complain(f"{_jobs(len(held))} held by {FINALIZER} in {scope}" + _how_released(len(held), failed, remove))
        return EXIT_FAILED if failed else 0

    return await in_cluster(carried_out)


async def _held(api: "Api", namespace: str | None) -> list[Job]:
    """Prints them as they are found. Raises KubeError."""
    from jobcast.kube import JOBS

    out, found = console(), []
    async for page in api.pages(JOBS, namespace, ""):
        for job in page.items:
            if job.held:
                found.append(job)
                print_line(out, Text(escape(_line(job))))
    return found


def _line(job: Job) -> str:
    state = job.end.type if job.end is not None else "open"
    deleted = f"  being deleted since {job.deleted}" if job.deleted else ""
    return f"{job.namespace}/{job.name}  {state}{deleted}"


async def _release(api: "Api", held: list[Job]) -> int:
    """How many could not be released; prints a line for each. Raises no error of the cluster."""
    from jobcast.kube import KubeError

    slots, failed = asyncio.Semaphore(AT_ONCE), 0
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("releasing", total=len(held))

        async def release(job: Job) -> None:
            nonlocal failed
            async with slots:
                try:
                    await api.release(job.namespace, job.name, job.uid)
                except KubeError as error:
                    failed += 1
                    complain(f"{job.namespace}/{job.name}: {error}")
            progress.advance(bar)

        await asyncio.gather(*map(release, held))
    return failed


def _jobs(count: int) -> str:
    return f"{count} Job{'' if count == 1 else 's'}"


def _how_released(count: int, failed: int, remove: bool) -> str:
    if not remove or not count:
        return ""
    return f"; released {count - failed} of {count}" if failed else "; all released"
