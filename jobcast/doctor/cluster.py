"""The API server: whether it answers, what the parts' accounts may do there, and which Jobs are watched."""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

from jobcast.doctor.finding import Finding, broken, ok, unknown, warning
from jobcast.kube import JOBS, Api, Forbidden, KubeError, NotFound, needed

MOST_COUNTED = 10_000
"""Jobs: twenty pages, a second or two."""

ACCOUNTS = {"controller": "jobcast-controller", "worker": "jobcast-worker"}
"""As k8s/base/rbac.yaml calls them."""


class Watched(NamedTuple):
    """What an installation looks at."""

    namespaces: tuple[str, ...] | None
    """None is all of them."""
    selector: str
    finalizer: bool
    home: str
    """The namespace that its own Pods are in."""

    @property
    def each(self) -> tuple[str | None, ...]:
        return self.namespaces or (None,)


async def reachable(api: Api) -> list[Finding]:
    """Raises KubeError."""
    version = await api.version()
    skew = api.skew
    return [
        ok("cluster", f"{api.access.host} answers, Kubernetes {version}"),
        ok("clocks", f"the API server's clock is {skew:+.0f} s from this machine's; nothing is decided by either"),
    ]


async def permissions(api: Api, watched: Watched, accounts: Mapping[str, str]) -> list[Finding]:
    """`accounts` are the ServiceAccounts of the parts, by kind. Who is one of them asks of itself, and so does who finds
    none. Raises KubeError."""
    found = []
    for kind, account in (await _asked(api, watched.home, accounts)).items():
        found += await _of(api, watched, kind, f"system:serviceaccount:{watched.home}:{account}" if account else "")
    return found


async def _asked(api: Api, home: str, accounts: Mapping[str, str]) -> Mapping[str, str]:
    try:
        me = await api.whoami()
    except (Forbidden, NotFound):
        me = ""
    for kind, account in {**ACCOUNTS, **accounts}.items():
        if me == f"system:serviceaccount:{home}:{account}":
            return {kind: ""}
    return accounts or {"controller": ""}


async def _of(api: Api, watched: Watched, kind: str, user: str) -> list[Finding]:
    who = f"the {kind}'s account" if user else "this account"
    asked = needed(kind, finalizer=watched.finalizer)
    found = []
    for namespace in watched.each:
        where = f"in {namespace}" if namespace else "in all namespaces"
        role = "Role and RoleBinding" if namespace else "ClusterRole and ClusterRoleBinding"
        try:
            missing = await api.missing(asked, namespace, user=user)
        except (Forbidden, NotFound):
            hint = "ask as who may create subjectaccessreviews, or run doctor in the Pod"
            return [unknown("permissions", f"what {who} may do cannot be asked", hint)]
        todo = f"add it to the {role} jobcast-{kind} (k8s/base/rbac.yaml)"
        found += [broken("permissions", f"{who} may not {one} {where}", todo) for one in missing]
    return found or [ok("permissions", f"{who} may {', '.join(map(str, asked))}")]


async def selection(api: Api, watched: Watched) -> list[Finding]:
    """How many Jobs are watched. Raises KubeError."""
    count = 0
    for namespace in watched.each:
        count += await _count(api, namespace, watched.selector)
    where = ", ".join(watched.namespaces) if watched.namespaces else "all namespaces"
    if count:
        more = "at least " if count >= MOST_COUNTED else ""
        return [ok("jobs", f"LABEL_SELECTOR {watched.selector} selects {more}{count} Jobs in {where}")]
    for namespace in watched.each:
        other = await api.first(JOBS, namespace)
        if other is not None:
            text = f"LABEL_SELECTOR {watched.selector} selects no Job in {where}, and there are others, as {other.name}"
            return [warning("jobs", text, "label the Jobs, or change LABEL_SELECTOR")]
    return [ok("jobs", f"there are no Jobs in {where} yet")]


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
        return str(error), "use an account that may, or ask whoever runs the cluster"
    if isinstance(error, KubeError):
        return str(error), "see whether kubectl reaches it: kubectl version"
    return f"{type(error).__name__}: {error}", "please report it"
