"""How far behind the consumer groups are, and what handlers gave up on."""

from typing import TYPE_CHECKING

import redis

from jobcast.doctor.finding import Finding, ok, unknown, warning
from jobcast.keys import Keys
from jobcast.ledger.groups import GroupState, groups

if TYPE_CHECKING:
    import redis.asyncio

WAITING_SECONDS = 300.0
"""What was given to a consumer so long ago and is not acknowledged: a handler that takes longer is rare."""
MANY = 1000
"""Entries unread: at 50 events a second, twenty seconds of them."""


async def lag(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Raises what redis-py raises."""
    try:
        found = [finding for group in await groups(client, keys) for finding in _group(group, keys)]
        return found or [ok("stream", "it has no consumer groups yet")]
    except redis.exceptions.NoPermissionError:
        return [unknown("stream", "this account may not ask how far behind the groups are", "run doctor as operator")]


def _group(group: GroupState, keys: Keys) -> list[Finding]:
    of = "events" if group.stream == keys.events else "replays"
    name = f"group {group.name} of {of}"
    behind = f"{group.unread} unread, {group.pending} pending"
    if group.is_dead:
        text = f"{name} is dead, {behind}: the stream is trimmed without it"
        return [warning("stream", text, f"start its consumers, or XGROUP DESTROY '{group.stream}' {group.name}")]
    if group.unread > MANY or group.waiting > WAITING_SECONDS:
        slow = f", the oldest given {group.waiting:.0f} s ago" if group.waiting > WAITING_SECONDS else ""
        return [warning("stream", f"{name} is behind: {behind}{slow}", "more consumers, or quicker ones: jobcast lag")]
    return [ok("stream", f"{name}: {behind}")]


async def dead_letters(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Raises what redis-py raises."""
    try:
        count = await client.xlen(keys.dead)
    except redis.exceptions.NoPermissionError:
        return [unknown("dead letters", "this account may not count them")]
    if not count:
        return [ok("dead letters", "none")]
    return [warning("dead letters", f"{count} events were given up on", "jobcast dead list")]
