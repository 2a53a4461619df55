"""One consumer of a group of the two streams, events and replays: its commands, and nothing of what the entries mean.

An entry is named by its id in the stream of events, or by `replay:<id>`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import redis

from jobcast.keys import GROUP, Keys
from worker.scripts import Call, Script, run, text

Fields: TypeAlias = dict[bytes, bytes]
Entry: TypeAlias = tuple[str, Fields]
"""Its name and its fields; no fields when the stream was trimmed and the entry is gone."""
Places: TypeAlias = tuple[str, str]
"""An id of each stream."""

REPLAY = "replay:"
FORGET_AFTER = 86_400
"""Seconds of silence after which a consumer that holds nothing is removed: every Pod brings a new name."""
MOST_HELD = 10_000
"""Entries of each stream that one consumer keeps alive. Others take over what it holds beyond them."""
_READ, _NEXT, _HEARTBEAT, _CLAIM = map(Script, ("read.lua", "next.lua", "heartbeat.lua", "claim.lua"))
_FORGET = """
for _, stream in ipairs(KEYS) do
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ARGV[1])) do
    local is = {}
    for i = 1, #consumer, 2 do is[consumer[i]] = consumer[i + 1] end
    if is.pending == 0 and is.idle > tonumber(ARGV[2]) then redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], is.name) end
  end
end
"""


_REWIND = """
local function is_less(a, b)
  local a1, a2 = a:match('(%d+)-(%d+)')
  local b1, b2 = b:match('(%d+)-(%d+)')
  if #a1 ~= #b1 then return #a1 < #b1 end
  if a1 ~= b1 then return a1 < b1 end
  return tonumber(a2) < tonumber(b2)
end
local function of(reply, name)
  for i = 1, #reply, 2 do if reply[i] == name then return reply[i + 1] end end
end
local rewound = 0
for _, stream in ipairs(KEYS) do
  local last = of(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if of(group, 'name') == ARGV[1] and is_less(last, of(group, 'last-delivered-id')) then
      redis.call('XGROUP', 'SETID', stream, ARGV[1], '0')
      rewound = 1
    end
  end
end
return rewound
"""
_GONE = ("NOGROUP", "no such key")


def is_gone(error: Exception) -> bool:
    """Whether Redis says that a stream or the group is not there: it was flushed, or came back empty."""
    return any(words in str(error) for words in _GONE)


class Reading(NamedTuple):
    entries: list[Entry]
    """For handlers now: each is the first of its evaluation that has not ended."""
    behind: Places | None
    """Up to here all was given to some consumer of the group; None where there may be more."""


class Group:
    """One consumer of the group. Raises redis errors as they come; see `is_gone`."""

    def __init__(self, client: "redis.Redis", keys: Keys, consumer: str, name: str = GROUP) -> None:
        self.consumer = consumer
        self.name = name
        self._client = client
        self._events = keys.events
        self._streams = (keys.events, keys.replays)
        self._keys = (*self._streams, keys.lanes(name))

    def run(self, *calls: Call) -> list[Any]:
        return run(self._client, *calls)

    def close(self) -> None:
        self._client.close()

    def create(self) -> bool:
        """Make sure that the group is there; true when it was not.

        It begins with the first entry of the stream, so that events published before the first worker are not missed.
        """
        is_new, _ = map(self._create, self._streams)
        return is_new

    def _create(self, stream: str) -> bool:
        try:
            self._client.xgroup_create(stream, self.name, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" in str(error):
                return False
            raise
        return True

    def rewind(self) -> bool:
        """If the group is beyond the end of a stream, and would never get what comes next, have it begin with the first entry
        again, and return true. A Redis that was restored from two states can be like that.
        """
        return bool(self._client.eval(_REWIND, 2, *self._streams, self.name))

    def reading(
        self, count: int, moved: Iterable[str] = (), unwanted: Sequence[str] = (), *, is_replays_turn: bool = False
    ) -> Call:
        """What this consumer may hand out now, at most `count` of it new; the answer is for `read`. Does not wait.

        In the evaluations `moved` an entry has ended: their first ones are included, if they are this consumer's. Entries with
        a status of `unwanted` are acknowledged unread. `is_replays_turn` says what a single place is for.
        """
        given = (self.name, self.consumer, count, int(is_replays_turn), len(unwanted), *unwanted)
        return Call(_READ, self._keys, (*given, *(eval_id.encode(errors="surrogateescape") for eval_id in moved)))

    @staticmethod
    def read(reply: Any) -> Reading:
        """The answer to `reading`."""
        entries, *behind = reply
        return Reading(_entries(entries), (text(behind[0]), text(behind[1])) if behind else None)

    def next_ready(self, entries: Sequence[str], most: int) -> tuple[list[Entry], int]:
        """Of entries that this consumer may hold, those that are its and the first of their evaluation, `most` at most; and
        how many were looked at."""
        call = Call(_NEXT, self._keys, (self.name, self.consumer, most, *entries))
        ((found, looked_at),) = run(self._client, call)
        return _entries(found), looked_at

    def heartbeat(self) -> list[str]:
        """Keep alive what this consumer holds, and return it."""
        return self._names(_HEARTBEAT, MOST_HELD, 0)

    def release(self, kept: Iterable[str]) -> None:
        """Let others take over what this consumer holds, except `kept`: nothing here will end it."""
        self._names(_HEARTBEAT, MOST_HELD, FORGET_AFTER * 1000, *kept)

    def claim(self, idle: float, count: int) -> list[str]:
        """Take over entries that their consumers have not touched for `idle` seconds, `count` of each stream at most."""
        return self._names(_CLAIM, count, int(idle * 1000))

    def _names(self, script: Script, *args: Any) -> list[str]:
        (names,) = run(self._client, Call(script, self._keys, (self.name, self.consumer, *args)))
        return [text(name) for name in names]

    def acknowledged(self, entries: Sequence[str]) -> list[str]:
        """Those of the entries that no consumer holds any more."""
        pipeline = self._client.pipeline(transaction=False)
        for entry in entries:
            one = entry.removeprefix(REPLAY)
            pipeline.xpending_range(self._streams[one != entry], self.name, one, one, 1)
        return [entry for entry, reply in zip(entries, pipeline.execute(), strict=True) if not reply]

    def lags(self) -> dict[str, int]:
        """Of each group of the stream of events, how many entries it has not acknowledged; without those that cannot be
        counted."""
        groups = self._client.xinfo_groups(self._events)
        return {
            text(group["name"]): group["lag"] + group["pending"] for group in groups if group.get("lag") is not None
        }

    def forget_the_dead(self) -> None:
        """Remove consumers that hold nothing and have been silent for a day."""
        self._client.eval(_FORGET, 2, *self._streams, self.name, FORGET_AFTER * 1000)


def _entries(items: Any) -> list[Entry]:
    return [(text(entry), dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in items]
