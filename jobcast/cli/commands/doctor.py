"""`jobcast doctor`: checks the cluster, the permissions, Redis and the instances of Jobcast."""

import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.text import Text

from jobcast.cli.redis import Redis
from jobcast.cli.render.output import console, escape, print_line, write_json
from jobcast.cli.render.progress import waiting_for
from jobcast.cli.run import EXIT_FAILED, EXIT_WRONG_USAGE, end, wrong
from jobcast.doctor import Finding, Verdict, account, examined, installed, leftovers, server, streams
from jobcast.doctor.finding import LIMIT_SECONDS, Check, Explain, broken, unknown, warning
from jobcast.keys import Keys
from jobcast.ledger.repair import Lifetimes
from jobcast.redis.connection import connect, explain

if TYPE_CHECKING:
    from jobcast.service.settings import CoreSettings

KUBECONFIG = "kubeconfig"
REDIS_SECONDS = (5.0, 4.0)
"""For the first answer of Redis, and for all others; together less than the ten seconds in which the command ends."""
ANSWER_SECONDS = 3.0
"""For one command: a Redis that hangs is reported before the check's own time is over."""
STYLES = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.BROKEN: "bold red",
    Verdict.UNKNOWN: "dim",
}


Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", metavar="NAME", help="Where Jobcast is installed. Default: the context's namespace"
    ),
]
Repair = Annotated[bool, typer.Option("--repair", help="Repair leftover keys in Redis; takes minutes for millions")]


def doctor(
    namespace: Namespace = None,
    repair: Repair = False,
    *,
    as_json: bool,
    redis: Redis,
) -> None:
    """Check whether Jobcast works, and say how to repair what does not.

    Runs on a laptop or in a Pod of Jobcast. Checks the cluster, permissions,
    watched Jobs, Jobcast's Pods, Redis, consumer groups, controllers and
    workers. Each line is ok, warning, broken, or unknown if this account has
    no access. Without --repair it changes nothing, and ends within ten
    seconds. Reads NAMESPACES and LABEL_SELECTOR as the controller does. The
    cluster needs the extra jobcast\\[controller]. Exit code 1 if something is
    broken, 2 if a setting is wrong.

    Leftovers are keys in Redis that were restored or changed by hand, so that
    nothing will remove them. --repair lets them expire RETENTION_SECONDS and
    STREAM_MAX_SECONDS from now, and lists forgotten Jobs as open again. It is
    safe while Jobcast runs.
    """
    settings = _settings(redis)
    if repair and settings is None:
        raise wrong("--repair", "it needs the settings of Jobcast: pip install 'jobcast[controller]'")
    lifetimes = Lifetimes(settings.retention_seconds, settings.stream_max_seconds) if repair and settings else None
    end(_doctor(redis, settings, namespace, lifetimes, as_json))


def _settings(redis: Redis) -> "CoreSettings | None":
    """None if the extra for a cluster is not installed. Ends the command with code 2 if a setting is wrong."""
    try:
        from jobcast import kube  # noqa: F401 - whether it can be
        from jobcast.service.settings import CoreSettings, read
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "jobcast":
            raise
        return None
    return read(CoreSettings, redis_url=redis.url, key_prefix=redis.prefix)


async def _doctor(
    redis: Redis, settings: "CoreSettings | None", namespace: str | None, repair: Lifetimes | None, json: bool
) -> int:
    async with waiting_for("asking the cluster and Redis"):
        both = await asyncio.gather(of_cluster(settings, namespace), of_redis(redis, repair))
        found = [one for some in both for one in some]
    if json:
        write_json(msgspec.json.encode([finding._asdict() for finding in found]))
    else:
        _print(found)
    code = _code(found)
    if any(finding.is_late for finding in found):
        # A DNS lookup cannot be cancelled, and the exit would wait for it: up to half a minute.
        sys.stdout.flush()
        os._exit(code)
    return code


def _code(found: Sequence[Finding]) -> int:
    broken = {finding.about for finding in found if finding.verdict is Verdict.BROKEN}
    return EXIT_WRONG_USAGE if KUBECONFIG in broken else EXIT_FAILED if broken else 0


async def of_cluster(settings: "CoreSettings | None", namespace: str | None) -> Sequence[Finding]:
    if settings is None:
        text = "not checked: the extra for it is not installed"
        return [warning("cluster", text, "pip install 'jobcast[controller]'")]
    from jobcast.doctor import cluster, pods
    from jobcast.kube import Access, Api, Forbidden, NoCluster
    from jobcast.service.settings import watched_namespaces

    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            access = await Access.find()
            access.ssl()
    except NoCluster as error:
        return [broken(KUBECONFIG, str(error), "set KUBECONFIG, or run doctor in a Pod of Jobcast")]
    except TimeoutError:
        return [broken("cluster", f"no credentials within {LIMIT_SECONDS:g} s", "check whether kubectl reaches it")]
    home = namespace or access.namespace
    watched = cluster.Watched(watched_namespaces(settings, home), settings.label_selector, settings.finalizer, home)

    async def of_pods() -> Sequence[Finding]:
        """Our Pods, and the permissions of their accounts."""
        try:
            ours = await pods.ours(api, home)
            seen = pods.findings(ours, home)
        except Forbidden:
            ours, seen = [], [unknown("pods", f"this account may not list the Pods in {home}")]
        return [*await cluster.permissions(api, watched, pods.accounts(ours)), *seen]

    async with Api(access) as api:
        checks: dict[str, Check] = {
            "cluster": partial(cluster.reachable, api),
            "jobs": partial(cluster.selection, api, watched),
            "pods": of_pods,
        }
        return await examined(checks, cluster.explained)


async def of_redis(redis: Redis, repair: Lifetimes | None = None) -> Sequence[Finding]:
    """Its leftovers are repaired if `repair` says what lifetimes they get."""
    keys = Keys(redis.prefix)
    client = connect(redis.url, prefix=redis.prefix, answer_seconds=ANSWER_SECONDS)
    try:
        first = await examined({"redis": partial(server.settings, client)}, _explained(redis), REDIS_SECONDS[0])
        if first[0].verdict is Verdict.BROKEN:
            return first  # the other checks would fail likewise
        checks: dict[str, Check] = {
            "clocks": partial(server.reachable, client),
            "account": partial(account.rights, client, keys),
            "members": partial(installed.installed, client, keys),
            "stream": partial(streams.lag, client, keys),
            "dead letters": partial(streams.dead_letters, client, keys),
        }
        search: Check = partial(leftovers.leftovers, client, keys, repair)
        seconds = REDIS_SECONDS[1] if repair is None else leftovers.REPAIR_SECONDS + REDIS_SECONDS[1]
        found = await asyncio.gather(
            examined(checks, _explained(redis), REDIS_SECONDS[1]),
            examined({"leftovers": search}, _explained(redis), seconds),
        )
        return [*first, *found[0], *found[1]]
    finally:
        await client.aclose()


def _explained(redis: Redis) -> Explain:
    def explained(error: Exception) -> tuple[str, str]:
        return f"{redis.where}: {explain(error)}", "check REDIS_URL, and whether it is reachable from here"

    return explained


def _print(found: Sequence[Finding]) -> None:
    out = console()
    for finding in found:
        line = Text(f"{finding.verdict.value:8}", STYLES[finding.verdict])
        line.append(f"{finding.about:13}", "bold").append(escape(finding.text), "default")
        print_line(out, line)
        if finding.todo:
            print_line(out, Text(f"{'':21}→ {escape(finding.todo)}", "dim"))
