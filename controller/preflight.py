"""`python -m controller --check`: whether the controller can work with these settings, permissions, Redis and log store."""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

from controller.checks import watched_by
from controller.settings import ControllerSettings
from jobcast.doctor import Finding, Verdict, cluster, examined, storage
from jobcast.doctor.finding import broken
from jobcast.keys import Keys
from jobcast.kube import Access, Api, NoCluster
from jobcast.redis.connection import ERRORS, connect, explain, masked
from jobcast.service.membership import CONTROLLER
from jobcast.service.settings import EXIT_FAILED, EXIT_WRONG_SETTINGS

LIMIT_SECONDS = 60.0
"""Of all permission checks together, in as many namespaces as there may be."""


async def check(settings: ControllerSettings) -> int:
    """Prints one line for each finding; the exit code is that of the worst."""
    try:
        access = await Access.find()
        access.ssl()
    except NoCluster as error:
        _print([broken("KUBECONFIG", str(error))])
        return EXIT_WRONG_SETTINGS
    async with (
        Api(access) as api,
        aclosing(connect(settings.redis_url, prefix=settings.key_prefix)) as client,
    ):
        checks = {
            "cluster": partial(_cluster, api, watched_by(settings, access)),
            "redis": partial(storage.redis_writes, client, Keys(settings.key_prefix)),
            "log store": partial(storage.log_store, settings.log_store),
        }
        found = await examined(checks, partial(_explained, settings.redis_url), LIMIT_SECONDS)
    _print(found)
    return EXIT_FAILED if any(finding.verdict is Verdict.BROKEN for finding in found) else 0


async def _cluster(api: Api, watched: cluster.Watched) -> list[Finding]:
    return [*await cluster.reachable(api), *await cluster.permissions_of(CONTROLLER, api, watched)]


def _explained(redis_url: str, error: Exception) -> tuple[str, str]:
    if isinstance(error, ERRORS):
        return f"REDIS_URL {masked(redis_url)}: {explain(error)}", ""
    return cluster.explained(error)


def _print(found: Sequence[Finding]) -> None:
    for finding in found:
        print(f"{finding.verdict.value:7} {finding.about}: {finding.line}")  # noqa: T201 - the answer to the command
