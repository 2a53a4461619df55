"""The controllers and workers that are running, as they report it in Redis, and whether they conflict."""

from typing import TYPE_CHECKING

import redis

from jobcast.doctor.finding import Finding, broken, ok, unknown, warning
from jobcast.keys import Keys
from jobcast.service.membership import CONTROLLER, WORKER, Member, decode_members, find_conflicts

if TYPE_CHECKING:
    import redis.asyncio


async def installed(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Raises what redis-py raises."""
    try:
        records = (await client.hgetall(keys.parts)).values()
        now = (await client.time())[0]
    except redis.exceptions.NoPermissionError:
        return [unknown("members", "this account may not list controllers and workers", "run doctor as operator")]
    members = decode_members(records)
    running = [member for member in members if member.is_there(now)]
    found = [_kind(kind, members, running, now) for kind in (CONTROLLER, WORKER)]
    return [*found, *(warning("members", conflict) for conflict in find_conflicts(running))]


def _kind(kind: str, members: list[Member], running: list[Member], now: float) -> Finding:
    alike = [member for member in running if member.kind == kind]
    if alike:
        versions = ", ".join(sorted({member.version for member in alike}))
        watches = "; ".join(sorted({member.watches for member in alike if member.watches}))
        return ok("members", f"{kind}: {len(alike)} running, version {versions}" + (f", {watches}" if watches else ""))
    gone = max((member for member in members if member.kind == kind), key=lambda member: member.seen, default=None)
    last = f"; {gone.name} was last seen {now - gone.seen:.0f} s ago" if gone else ""
    todo = f"kubectl get pods -l app.kubernetes.io/component={kind}"
    if kind == CONTROLLER:
        return broken("members", f"no controller is running{last}", todo)
    return warning("members", f"no worker is running: no handler runs, and there is no sweep{last}", todo)
