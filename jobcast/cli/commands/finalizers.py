"""`jobcast finalizers`: the Jobs that our finalizer holds, and letting them go without a controller. Talks to the cluster."""

import asyncio
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from jobcast.cli.cluster import in_cluster
from jobcast.cli.render.output import complain, console, escape, print_line
from jobcast.cli.usage import EXIT_FAILED
from jobcast.jobs.model import FINALIZER, Job

if TYPE_CHECKING:
    from jobcast.kube import Api

AT_ONCE = 8
"""Releases under way at the same time: thousands take seconds, and an API server takes it for one busy client."""


async def finalizers(namespace: str | None, everywhere: bool, remove: bool) -> int:
    """Lists them, of the context's namespace where none is given; with `remove` takes the finalizer off each."""

    async def carried_out(api: "Api") -> int:
        where = None if everywhere else namespace or api.access.namespace
        held = await _held(api, where)
        failed = await _release(api, held) if remove else 0
        scope = "all namespaces" if where is None else f"namespace {where}"
        complain(f"{_jobs(len(held))} held by {FINALIZER} in {scope}" + _how_released(len(held), failed, remove))
        return EXIT_FAILED if failed else 0

    return await in_cluster(carried_out)


async def _held(api: "Api", namespace: str | None) -> list[Job]:
    """Shows them as they are found, whatever their labels. Raises KubeError."""
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
    """Of how many it could not be taken off; each gets a line. Raises nothing of the cluster's."""
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
