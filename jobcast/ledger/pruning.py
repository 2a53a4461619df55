"""Looks through all our keys now and then, and gives an expiry to each that should have one and has none.

Redis expires what has ended by itself. This is for what is left when something was lost: keys restored without their expiry, an
open Job whose place among the open ones is gone, a claim that somebody made permanent, a lane whose entries nobody has.
"""

from importlib.resources import files

from jobcast.keys import GROUP
from jobcast.ledger.index import trim_index
from jobcast.ledger.ledger import Ledger

SCRIPT = files("jobcast.ledger").joinpath("prune.lua").read_text()
PRUNE_SECONDS = 3600.0
"""How often, by whoever sweeps then: nothing that is found here is in a hurry."""
PAGE = 1000
"""Keys of one look: a millisecond for which Redis does nothing else. A million keys take a thousand."""


# Evaluations of which nothing is pending any more: their entries were trimmed, or acknowledged by a stranger, and none followed.
_LANES = """
local mended = 0
for i = 2, #ARGV do
  local is_pending = false
  for entry in (redis.call('HGET', KEYS[3], ARGV[i]) or ''):gmatch('%S+') do
    local replay = entry:match('^replay:(.*)$')
    local id = replay or entry
    local found = redis.pcall('XPENDING', replay and KEYS[2] or KEYS[1], ARGV[1], id, id, 1)
    is_pending = is_pending or (not found.err and #found > 0)
  end
  if not is_pending then mended = mended + redis.call('HDEL', KEYS[3], ARGV[i]) end
end
return mended
"""


async def is_due(ledger: Ledger, retention: float) -> bool:
    """Whether nobody has pruned for a while; if so, it is the caller's turn."""
    millis = int(min(PRUNE_SECONDS, retention / 3) * 1000)
    return bool(await ledger.run("SET", ledger.keys.pruned, ledger.identity, "NX", "PX", millis))


async def prune(ledger: Ledger, *, retention: int, todo_life: int) -> int:
    """Returns how many keys were mended. `todo_life`: seconds that what is known of an entry's handlers may be needed.
    Waits while Redis is away. Raises LedgerError."""
    beginning = ledger.keys.beginning
    mended, cursor = 0, b"0"
    while True:
        cursor, found = await ledger.run("SCAN", cursor, "MATCH", f"{beginning}*", "COUNT", PAGE)
        if found:
            keys = (ledger.keys.open, ledger.keys.index, *found)
            mended += await ledger.run("EVAL", SCRIPT, len(keys), *keys, retention, todo_life, beginning)
            for key in found:
                if key.startswith(ledger.keys.lanes().encode()):
                    mended += await _prune_lanes(ledger, key)
        if int(cursor) == 0:
            return mended + await trim_index(ledger)


async def _prune_lanes(ledger: Ledger, lanes: bytes) -> int:
    keys, own = ledger.keys, ledger.keys.lanes().encode()
    group = GROUP if lanes == own else lanes.removeprefix(own + b":")
    mended, cursor = 0, b"0"
    while True:
        cursor, found = await ledger.run("HSCAN", lanes, cursor, "COUNT", PAGE)
        if found:
            mended += await ledger.run("EVAL", _LANES, 3, keys.events, keys.replays, lanes, group, *found[::2])
        if int(cursor) == 0:
            return mended
