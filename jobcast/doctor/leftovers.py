"""What was left over in Redis. Changes nothing unless it is asked to repair."""

from typing import TYPE_CHECKING

import redis

from jobcast.doctor.finding import Finding, ok, unknown, warning
from jobcast.keys import Keys
from jobcast.ledger.repair import Leftovers, Lifetimes, find_leftovers

if TYPE_CHECKING:
    import redis.asyncio

LOOK_SECONDS = 2.0
"""For looking only: some hundred thousand keys, well within the time of a check."""
REPAIR_SECONDS = 300.0
"""For a repair: tens of millions of keys."""


async def leftovers(client: "redis.asyncio.Redis", keys: Keys, repair: Lifetimes | None = None) -> list[Finding]:
    """Raises what redis-py raises, except for refused permissions."""
    try:
        found = await find_leftovers(client, keys, LOOK_SECONDS if repair is None else REPAIR_SECONDS, repair)
    except redis.exceptions.NoPermissionError:
        return [unknown("leftovers", "this account may not search for leftover keys", "run doctor as operator")]
    if not found.total:
        return [ok("leftovers", "none" if found.is_all else "none among the keys that there was time for")]
    if repair is None:
        return [warning("leftovers", _text(found), "jobcast doctor --repair")]
    text = f"repaired {_text(found)}"
    return [ok("leftovers", text) if found.is_all else warning("leftovers", text, "run it again")]


def _text(found: Leftovers) -> str:
    kinds = {
        "keys without an expiry": found.immortal,
        "Jobs missing among the open ones": found.missing,
        "unused ordering keys": found.ordering,
    }
    text = ", ".join(f"{kind}: {count}" for kind, count in kinds.items() if count)
    return text if found.is_all else f"{text}; there was no time for all keys"
