"""How far behind the consumer groups are, and how many dead letters there are."""

from typing import TYPE_CHECKING

import redis

from jobcast.doctor.finding import Finding, ok, unknown, warning
from jobcast.keys import Keys
from jobcast.ledger.groups import GroupState, groups

if TYPE_CHECKING:
    import redis.asyncio

WAITING_SECONDS = 300.0
"""The age from which a pending entry is reported: few handlers take longer."""
MANY = 1000
"""Unread entries: at 50 events a second, those of twenty seconds."""


async def lag(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Raises what redis-py raises."""
    try:
        found = [finding for group in await groups(client, keys) for finding in _group(group, keys)]
        return found or [ok("stream", "it has no consumer groups yet")]
    except redis.exceptions.NoPermissionError:
        return [unknown("stream", "this account may not ask for the lag of consumer groups", "run doctor as operator")]


def _group(group: GroupState, keys: Keys) -> list[Finding]:
    of = "events" if group.stream == keys.events else "replays"
    name = f"group {group.name} of {of}"
    behind = f"{group.unread} unread, {group.pending} pending"
    if group.is_dead:
        text = f"{name} is dead, {behind}: the stream is trimmed without it"
        return [warning("stream", text, f"start its consumers, or XGROUP DESTROY '{group.stream}' {group.name}")]
    if group.unread > MANY or group.waiting > WAITING_SECONDS:
        slow = f", the oldest delivered {group.waiting:.0f} s ago" if group.waiting > WAITING_SECONDS else ""
        return [
            warning("stream", f"{name} is behind: {behind}{slow}", "add consumers, or make them faster: jobcast lag")
        ]
    return [ok("stream", f"{name}: {behind}")]


async def dead_letters(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Raises what redis-py raises."""
    try:
        count = await client.xlen(keys.dead)
    except redis.exceptions.NoPermissionError:
        return [unknown("dead letters", "this account may not count dead letters")]
    if not count:
        return [ok("dead letters", "none")]
    return [warning("dead letters", f"{count} kept", "jobcast dead list")]
