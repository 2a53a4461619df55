"""The cluster for the commands that need it, found as kubectl finds it; its errors are one line each."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from jobcast.cli.render.output import complain
from jobcast.cli.run import EXIT_FAILED, EXIT_WRONG_USAGE

if TYPE_CHECKING:
    from jobcast.jobs.decode import Reading
    from jobcast.kube import Api


async def in_cluster(command: Callable[["Api"], Awaitable[int]], reading: "Reading | None" = None) -> int:
    """The command's exit code; 1 if the cluster refuses or does not answer. Without a kubeconfig, typer.Exit with code 2."""
    with extra():
        from jobcast.kube import Access, Api, KubeError, NoCluster
    try:
        with extra():
            access = await Access.find()
    except NoCluster as error:
        complain(f"KUBECONFIG: {error}")
        raise typer.Exit(EXIT_WRONG_USAGE) from None
    try:
        async with Api(access, reading) as api:
            return await command(api)
    except (KubeError, NoCluster) as error:
        complain(f"cluster at {access.host}: {error}")
        return EXIT_FAILED


@contextmanager
def extra() -> Iterator[None]:
    """Imports inside need jobcast[controller]: ends the command with code 2 if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "jobcast":
            raise
        complain(f"{error.name or error} is missing; access to a cluster needs: pip install 'jobcast[controller]'")
        raise typer.Exit(EXIT_WRONG_USAGE) from None
