"""Redis itself: whether it answers, is the primary, and keeps what it has acknowledged, which all promises depend on."""

import time
from typing import TYPE_CHECKING, Any

import redis

from jobcast.doctor.finding import Finding, broken, ok, unknown, warning

if TYPE_CHECKING:
    import redis.asyncio

NEARLY_FULL = 0.8
FULL = 0.95
"""Of maxmemory."""


async def reachable(client: "redis.asyncio.Redis") -> list[Finding]:
    """Raises what redis-py raises."""
    try:
        seconds, micros = await client.time()
    except redis.exceptions.NoPermissionError:
        return [unknown("clocks", "this account may not ask Redis for the time")]
    skew = seconds + micros / 1_000_000 - time.time()
    return [ok("clocks", f"the clock of Redis differs from this machine's by {skew:+.1f} s; neither decides anything")]


async def settings(client: "redis.asyncio.Redis") -> list[Finding]:
    """The version, and settings that risk losing data. Raises what redis-py raises."""
    try:
        info: dict[str, Any] = await client.info()
    except redis.exceptions.NoPermissionError:
        todo = "run doctor as an account that may run INFO, such as operator, or check Redis yourself"
        return [
            ok("redis", "it answers"),
            unknown("redis", "this account may not ask for version, persistence and memory (INFO)", todo),
        ]
    return [_version(info), *_role(info), *_persistence(info), *_memory(info)]


def _version(info: dict[str, Any]) -> Finding:
    name = info.get("server_name", "redis")
    return ok("redis", f"it answers, {name} {info.get('valkey_version') or info.get('redis_version', 'unknown')}")


def _role(info: dict[str, Any]) -> list[Finding]:
    if info.get("role") == "master":
        return []
    return [broken("redis", "it is a replica, which takes no writes", "set REDIS_URL to the primary")]


def _persistence(info: dict[str, Any]) -> list[Finding]:
    found = []
    if not info.get("aof_enabled"):
        text = "no append-only file: a restart loses what was acknowledged since the last snapshot, or everything"
        found.append(warning("persistence", text, "set appendonly yes"))
    for name, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot")):
        if info.get(name, "ok") != "ok":
            found.append(broken("persistence", f"it cannot write its {what}", "check the log of Redis, and its disk"))
    return found or [ok("persistence", "append-only file is on")]


def _memory(info: dict[str, Any]) -> list[Finding]:
    policy, most, used = info.get("maxmemory_policy", ""), info.get("maxmemory", 0), info.get("used_memory", 0)
    found = []
    if policy not in ("noeviction", ""):
        text = f"maxmemory-policy is {policy}: a full Redis evicts what was published"
        say = broken if policy.startswith("allkeys") else warning
        found.append(say("memory", text, "set maxmemory-policy noeviction"))
    if evicted := info.get("evicted_keys", 0):
        found.append(broken("memory", f"{evicted} keys were evicted because memory was full", "raise maxmemory"))
    if most and used >= NEARLY_FULL * most:
        say = broken if used >= FULL * most else warning
        found.append(
            say("memory", f"{used / most:.0%} of maxmemory is used", "raise maxmemory or shorten RETENTION_SECONDS")
        )
    limit = f"{used / most:.0%} of maxmemory" if most else "no maxmemory"
    return found or [ok("memory", f"nothing is evicted ({policy}), {used / 1e6:.0f} MB used, {limit}")]
