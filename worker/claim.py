"""The claim to sweep: one worker has it at a time and renews it while it sweeps. It expires when the worker dies."""

import asyncio
import secrets

import redis.asyncio

from jobcast.redis.connection import ERRORS

LIFE_SECONDS = 10.0
"""How long the claim outlives a worker that died in a round. A shorter outage of Redis lets no other worker begin."""
RENEWALS = 4
"""In the claim's life: three may be lost."""

# Where Redis has forgotten it, it is still ours.
_RENEW = """
local holder = redis.call('GET', KEYS[1])
if not holder then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1 end
return holder == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0
"""
_END = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
if tonumber(ARGV[2]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) else redis.call('DEL', KEYS[1]) end
"""


class SweepClaim:
    """For one round: `take`, then `keep` beside the round, then `end`. Raises redis errors as they come."""

    def __init__(self, client: "redis.asyncio.Redis", key: str, worker: str) -> None:
        self._client = client
        self._key = key
        self._value = f"{worker} {secrets.token_hex(4)}"
        """Two workers may have the same name, and a worker's last claim is not this one."""

    async def take(self) -> bool:
        """False while another has it."""
        return bool(await self._client.set(self._key, self._value, nx=True, px=int(LIFE_SECONDS * 1000)))

    async def keep(self) -> None:
        """Returns when another has it: Redis was unreachable for longer than its life, or this process was suspended."""
        is_ours = True
        while is_ours:
            await asyncio.sleep(LIFE_SECONDS / RENEWALS)
            try:
                is_ours = bool(await self._client.eval(_RENEW, 1, self._key, self._value, int(LIFE_SECONDS * 1000)))
            except ERRORS:
                continue  # the round waits for Redis, too

    async def end(self, rest: float) -> None:
        """The round is over; no worker begins one for `rest` seconds."""
        await self._client.eval(_END, 1, self._key, self._value, max(0, int(rest * 1000)))
