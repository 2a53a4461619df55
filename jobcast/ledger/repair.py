"""Finds and repairs what should not be in Redis any more, for `jobcast doctor`.

No process of Jobcast leaves any of it behind: every key has its expiry from the command that writes it. It comes from outside:
keys that were restored without their expiry, rows of open Jobs whose place among the open ones was deleted, entries that were
deleted or acknowledged by hand, and entries that were trimmed while no worker ran for a day.
"""

import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from jobcast.keys import GROUP, Keys

if TYPE_CHECKING:
    import redis.asyncio

SCRIPT = files("jobcast.ledger").joinpath("repair.lua").read_text()
PAGE = 1000
"""Keys of one call: about a millisecond for which Redis does nothing else. A million keys take a thousand calls."""

# Of these evaluations, those without pending entries: nothing will remove them. Removes them unless ARGV[2] is empty.
_ORDERING = """
local found = 0
for i = 3, #ARGV do
  local is_pending = false
  for entry in (redis.call('HGET', KEYS[3], ARGV[i]) or ''):gmatch('%S+') do
    local replay = entry:match('^replay:(.*)$')
    local id = replay or entry
    local reply = redis.pcall('XPENDING', replay and KEYS[2] or KEYS[1], ARGV[1], id, id, 1)
    is_pending = is_pending or (not reply.err and #reply > 0)
  end
  if not is_pending then
    found = found + 1
    if ARGV[2] ~= '' then redis.call('HDEL', KEYS[3], ARGV[i]) end
  end
end
return found
"""


class Lifetimes(NamedTuple):
    """What repaired keys get, in seconds."""

    retention: int
    """For rows, records and logs: RETENTION_SECONDS."""
    todo: int
    """For the delivery state of an entry: STREAM_MAX_SECONDS."""


class Leftovers(NamedTuple):
    """How many there are; after a repair, how many there were."""

    immortal: int = 0
    """Keys without the expiry that they should have."""
    missing: int = 0
    """Open Jobs that are missing among the open ones: their end would never be published after they are gone."""
    ordering: int = 0
    """Ordering keys of evaluations none of whose entries is with a worker."""
    is_all: bool = True
    """Whether there was time for all keys."""

    @property
    def total(self) -> int:
        return self.immortal + self.missing + self.ordering


async def find_leftovers(
    client: "redis.asyncio.Redis", keys: Keys, seconds: float, repair: Lifetimes | None = None
) -> Leftovers:
    """Looks at all our keys, for so many seconds at most. With `repair` it also repairs what it finds.

    Each page is one atomic script, so it may run beside controllers and workers, may be interrupted, and may be repeated.
    Raises what redis-py raises.
    """
    run: Any = client.execute_command
    until = time.monotonic() + seconds
    arguments = (keys.beginning, *(repair or ("", "")))
    found, cursor = Leftovers(), b"0"
    while True:
        cursor, page = await run("SCAN", cursor, "MATCH", f"{keys.beginning}*", "COUNT", PAGE)
        if page:
            immortal, missing = await run("EVAL", SCRIPT, len(page) + 1, keys.open, *page, *arguments)
            ordering = 0
            for key in page:
                if key.startswith(keys.lanes().encode()):
                    ordering += await _find_ordering(client, keys, key, is_repair=repair is not None)
            found = Leftovers(found.immortal + immortal, found.missing + missing, found.ordering + ordering)
        if int(cursor) == 0:
            return found
        if time.monotonic() > until:
            return found._replace(is_all=False)


async def _find_ordering(client: "redis.asyncio.Redis", keys: Keys, lanes: bytes, *, is_repair: bool) -> int:
    run: Any = client.execute_command
    own = keys.lanes().encode()
    group = GROUP if lanes == own else lanes.removeprefix(own + b":")
    found, cursor = 0, b"0"
    while True:
        cursor, fields = await run("HSCAN", lanes, cursor, "COUNT", PAGE)
        evaluations = list(fields)
        if evaluations:
            names = (keys.events, keys.replays, lanes)
            found += await run("EVAL", _ORDERING, 3, *names, group, "1" if is_repair else "", *evaluations)
        if int(cursor) == 0:
            return found
