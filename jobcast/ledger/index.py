"""The index of evaluations, newest change first: removes those whose record has expired, puts back those that are missing.

The ledger's step writes the index, and lets it expire as a whole with the last record when no Job is open.
"""

from importlib.resources import files

from jobcast.ledger.ledger import Ledger

SCRIPT = files("jobcast.ledger").joinpath("index.lua").read_text()
PAGE = 1000
"""Evaluations of one call: about a millisecond for which Redis does nothing else."""
REPAIR_SECONDS = 3600.0
"""How often the whole index is repaired, by the process that sweeps then: only data loss in Redis needs it."""

# An evaluation changed last at the time of its event, else when its Job was created. Anything else than a number counts as 0.
_ADD = """
local function seconds(text)
  local value = tonumber(text or '0')
  return value and value >= 0 and value < 2 ^ 53 and value or 0
end
local added = 0
for i = 2, #KEYS do
  local eval_id = KEYS[i]:sub(#ARGV[1] + 1)
  if redis.call('TYPE', KEYS[i]).ok == 'hash' and not redis.call('ZSCORE', KEYS[1], eval_id) then
    local record = redis.call('HMGET', KEYS[i], 'event', 'created')
    local at = record[1] and seconds(record[1]:match('"timestamp":([%d.]+)')) or 0
    local changed = (at > 0 and at or seconds(record[2] or nil)) * 1000
    added = added + redis.call('ZADD', KEYS[1], string.format('%.0f', changed), eval_id)
  end
end
return added
"""


async def is_repair_due(ledger: Ledger) -> bool:
    """Whether no process has repaired the index for a while. If so, the caller must."""
    millis = int(min(REPAIR_SECONDS, ledger.retention / 3) * 1000)
    return bool(await ledger.run("SET", ledger.keys.pruned, ledger.identity, "NX", "PX", millis))


async def repair_index(ledger: Ledger) -> int:
    """Returns how many evaluations it added or removed. Waits while Redis is unreachable. Raises LedgerError."""
    prefix, repaired, cursor = ledger.keys.evaluation(""), 0, b"0"
    while True:
        cursor, found = await ledger.run("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", PAGE)
        if found:
            repaired += await ledger.run("EVAL", _ADD, len(found) + 1, ledger.keys.index, *found, prefix)
        if int(cursor) == 0:
            return repaired + await trim_index(ledger)


async def trim_index(ledger: Ledger, newest: float | None = None) -> int:
    """Returns how many evaluations it removed. `newest`: Unix seconds; those that changed later are not looked at.

    Waits while Redis is unreachable. Raises LedgerError.
    """
    score = "+inf" if newest is None else str(int(newest * 1000))
    offset = removed = 0
    while True:
        arguments = (ledger.keys.evaluation(""), score, offset, PAGE)
        looked, gone = map(int, await ledger.run("EVAL", SCRIPT, 1, ledger.keys.index, *arguments))
        removed += gone
        offset += looked - gone
        if looked < PAGE:
            return removed
