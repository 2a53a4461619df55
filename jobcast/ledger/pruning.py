"""Checks all our keys now and then, and repairs what was lost.

Redis expires most keys by itself. This is for the others: keys that were restored without their expiry, an open Job that is
missing among the open ones, an evaluation that is missing in the index, an ordering key whose entries no worker has.
"""

from importlib.resources import files

from jobcast.keys import GROUP
from jobcast.ledger.index import trim_index
from jobcast.ledger.ledger import Ledger

SCRIPT = files("jobcast.ledger").joinpath("prune.lua").read_text()
PRUNE_SECONDS = 3600.0
"""How often, by the process that sweeps then: nothing here is urgent."""
PAGE = 1000
"""Keys of one call: about a millisecond for which Redis does nothing else. A million keys take a thousand calls."""


# Removes evaluations without pending entries: the entries were trimmed, or acknowledged from outside, and none followed.
_LANES = """
local repaired = 0
for i = 2, #ARGV do
  local is_pending = false
  for entry in (redis.call('HGET', KEYS[3], ARGV[i]) or ''):gmatch('%S+') do
    local replay = entry:match('^replay:(.*)$')
    local id = replay or entry
    local found = redis.pcall('XPENDING', replay and KEYS[2] or KEYS[1], ARGV[1], id, id, 1)
    is_pending = is_pending or (not found.err and #found > 0)
  end
  if not is_pending then repaired = repaired + redis.call('HDEL', KEYS[3], ARGV[i]) end
end
return repaired
"""


async def is_due(ledger: Ledger, retention: float) -> bool:
    """Whether no process has pruned for a while. If so, the caller must."""
    millis = int(min(PRUNE_SECONDS, retention / 3) * 1000)
    return bool(await ledger.run("SET", ledger.keys.pruned, ledger.identity, "NX", "PX", millis))


async def prune(ledger: Ledger, *, retention: int, todo_life: int) -> int:
    """Returns how many repairs it made. `todo_life`: seconds that the delivery state of an entry may be needed.

    Waits while Redis is unreachable. Raises LedgerError."""
    beginning = ledger.keys.beginning
    repaired, cursor = 0, b"0"
    while True:
        cursor, found = await ledger.run("SCAN", cursor, "MATCH", f"{beginning}*", "COUNT", PAGE)
        if found:
            keys = (ledger.keys.open, ledger.keys.index, *found)
            repaired += await ledger.run("EVAL", SCRIPT, len(keys), *keys, retention, todo_life, beginning)
            for key in found:
                if key.startswith(ledger.keys.lanes().encode()):
                    repaired += await _prune_lanes(ledger, key)
        if int(cursor) == 0:
            return repaired + await trim_index(ledger)


async def _prune_lanes(ledger: Ledger, lanes: bytes) -> int:
    keys, own = ledger.keys, ledger.keys.lanes().encode()
    group = GROUP if lanes == own else lanes.removeprefix(own + b":")
    repaired, cursor = 0, b"0"
    while True:
        cursor, found = await ledger.run("HSCAN", lanes, cursor, "COUNT", PAGE)
        if found:
            repaired += await ledger.run("EVAL", _LANES, 3, keys.events, keys.replays, lanes, group, *found[::2])
        if int(cursor) == 0:
            return repaired
