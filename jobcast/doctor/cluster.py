"""The API server: whether it answers, what the accounts of controller and worker may do there, and which Jobs are watched."""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

from jobcast.doctor.finding import Finding, broken, ok, unknown, warning
from jobcast.kube import JOBS, Api, Forbidden, KubeError, NotFound, missing, whoami
from jobcast.service.processes import PROCESSES

MOST_COUNTED = 10_000
"""Jobs: twenty pages, a second or two."""


class Watched(NamedTuple):
    """What an installation watches."""

    namespaces: tuple[str, ...] | None
    """None is all of them."""
    selector: str
    finalizer: bool
    home: str
    """The namespace of its own Pods."""

    @property
    def each(self) -> tuple[str | None, ...]:
        return self.namespaces or (None,)

    @property
    def where(self) -> str:
        return ", ".join(self.namespaces) if self.namespaces else "all namespaces"


async def reachable(api: Api) -> list[Finding]:
    """Raises KubeError."""
    version = await api.version()
    return [
        ok("cluster", f"{api.access.host} answers, Kubernetes {version}"),
        ok(
            "clocks",
            f"the API server's clock differs from this machine's by {api.skew:+.0f} s; neither decides anything",
        ),
    ]


async def permissions(api: Api, watched: Watched, accounts: Mapping[str, str]) -> list[Finding]:
    """What `accounts`, the ServiceAccounts by process, may do. If our own account is one of them, only what that one may do;
    if there are none, what our own account may do of a controller's work. Raises KubeError."""
    found = []
    for kind, account in (await _to_be_asked(api, watched.home, accounts)).items():
        user = f"system:serviceaccount:{watched.home}:{account}" if account else ""
        found += await permissions_of(kind, api, watched, user)
    return found


async def _to_be_asked(api: Api, home: str, accounts: Mapping[str, str]) -> Mapping[str, str]:
    """Accounts by process; empty for our own."""
    try:
        me = await whoami(api)
    except (Forbidden, NotFound):
        me = ""
    shipped = {kind: process.service_account for kind, process in PROCESSES.items()}
    for kind, account in {**shipped, **accounts}.items():
        if me == f"system:serviceaccount:{home}:{account}":
            return {kind: ""}
    return accounts or {"controller": ""}


async def permissions_of(kind: str, api: Api, watched: Watched, user: str = "") -> list[Finding]:
    """Whether `user` (empty: our own account) may do a controller's or a worker's work: in each namespace one finding for
    each missing permission, or one if none is missing. Raises KubeError."""
    who = f"the {kind}'s account" if user else "this account"
    asked = PROCESSES[kind].needs(finalizer=watched.finalizer)
    found = []
    for namespace in watched.each:
        where = f"in {namespace}" if namespace else "in all namespaces"
        role = "Role and RoleBinding" if namespace else "ClusterRole and ClusterRoleBinding"
        try:
            lacking = await missing(api, asked, namespace, user=user)
        except (Forbidden, NotFound):
            hint = "run doctor as an account that may create subjectaccessreviews, or in the Pod"
            return [unknown("permissions", f"this account may not ask what {who} may do", hint)]
        todo = f"add it to the {role} jobcast-{kind} (k8s/base/rbac.yaml)"
        found += [broken("permissions", f"{who} may not {one} {where}", todo) for one in lacking] or [
            ok("permissions", f"{who} may {', '.join(map(str, asked))} {where}")
        ]
    return found


async def selection(api: Api, watched: Watched) -> list[Finding]:
    """How many Jobs are watched. Raises KubeError."""
    count = 0
    for namespace in watched.each:
        count += await _count(api, namespace, watched.selector)
    if not count:
        return await unselected(api, watched)
    more = "at least " if count >= MOST_COUNTED else ""
    return [ok("jobs", f"LABEL_SELECTOR {watched.selector} selects {more}{count} Jobs in {watched.where}")]


async def unselected(api: Api, watched: Watched) -> list[Finding]:
    """Where no Job is selected, whether there are other Jobs. Raises KubeError."""
    for namespace in watched.each:
        other = await api.first(JOBS, namespace)
        if other is not None:
            text = f"LABEL_SELECTOR {watched.selector} selects no Job in {watched.where}, but there are others"
            todo = f"label the Jobs, such as {other.namespace}/{other.name}, or change LABEL_SELECTOR"
            return [warning("jobs", text, todo)]
    return [ok("jobs", f"there are no Jobs in {watched.where} yet")]


async def _count(api: Api, namespace: str | None, selector: str) -> int:
    count = 0
    async with contextlib.aclosing(api.pages(JOBS, namespace, selector)) as pages:
        async for page in pages:
            count += len(page.items)
            if count >= MOST_COUNTED:
                break
    return count


def explained(error: Exception) -> tuple[str, str]:
    """For `examined`."""
    if isinstance(error, Forbidden):
        return str(error), "use an account that has this permission, or ask the administrator of the cluster"
    if isinstance(error, KubeError):
        return str(error), "check whether kubectl reaches the cluster: kubectl version"
    return f"{type(error).__name__}: {error}", "please report it"
