"""The controllers and workers that say in Redis that they are there, and whether they fit together."""

from typing import TYPE_CHECKING

import redis

from jobcast.doctor.finding import Finding, broken, ok, unknown, warning
from jobcast.keys import Keys
from jobcast.service.membership import CONTROLLER, GONE_SECONDS, WORKER, Member, conflicts, known

if TYPE_CHECKING:
    import redis.asyncio


async def installed(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Raises what redis-py raises."""
    try:
        said = (await client.hgetall(keys.parts)).values()
        now = (await client.time())[0]
    except redis.exceptions.NoPermissionError:
        return [unknown("parts", "this account may not ask who is there", "run doctor as operator")]
    parts = known(said)
    there = [part for part in parts if now - part.seen <= GONE_SECONDS]
    found = [finding for kind in (CONTROLLER, WORKER) for finding in _kind(kind, parts, there, now)]
    return [*found, *(warning("parts", misfit) for misfit in conflicts(there))]


def _kind(kind: str, parts: list[Member], there: list[Member], now: float) -> list[Finding]:
    alike = [part for part in there if part.kind == kind]
    if alike:
        versions = ", ".join(sorted({part.version for part in alike}))
        watches = "; ".join(sorted({part.watches for part in alike if part.watches}))
        return [ok("parts", f"{kind}: {len(alike)} there, version {versions}" + (f", {watches}" if watches else ""))]
    gone = max((part for part in parts if part.kind == kind), key=lambda part: part.seen, default=None)
    last = f"; {gone.name} was last there {now - gone.seen:.0f} s ago" if gone else ""
    if kind == CONTROLLER:
        todo = "kubectl get pods -l app.kubernetes.io/component=controller"
        return [broken("parts", f"no controller is there{last}", todo)]
    todo = "kubectl get pods -l app.kubernetes.io/component=worker"
    return [warning("parts", f"no worker is there: no handlers run, and nothing is swept{last}", todo)]
