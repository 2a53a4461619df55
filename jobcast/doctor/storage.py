"""Whether Redis and the log store take writes. Only `controller --check` calls these checks: they write."""

from typing import TYPE_CHECKING

from jobcast.doctor.finding import Finding, broken, ok
from jobcast.keys import Keys
from jobcast.logstore import LogStoreError, is_url, probe

if TYPE_CHECKING:
    import redis.asyncio


async def redis_writes(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Writes a key that expires after a second: a replica and a full Redis answer a PING, too. Raises what redis-py raises."""
    await client.set(keys.claim("check"), "", px=1000)
    return [ok("redis", "it answers and takes writes")]


async def log_store(url: str) -> list[Finding]:
    """Nothing where logs are kept in Redis."""
    if not is_url(url):
        return []
    try:
        await probe(url)
    except LogStoreError as error:
        return [broken("log store", f"LOG_STORE {error}")]
    return [ok("log store", f"{url} takes an object and returns it")]
