"""The consumer group of the stream: its commands, and nothing of what the entries mean."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import redis

from jobcast.keys import GROUP, Keys

Fields: TypeAlias = dict[bytes, bytes]
Entry: TypeAlias = tuple[str, Fields]
"""Id and fields; no fields when the stream was trimmed and the entry is gone."""

FORGET_AFTER = 86_400
"""Seconds of silence after which a consumer that holds nothing is removed: every Pod brings a new name."""
_FORGET = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local is = {}
  for i = 1, #consumer, 2 do is[consumer[i]] = consumer[i + 1] end
  if is.pending == 0 and is.idle > tonumber(ARGV[2]) then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], is.name) end
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
local last = of(redis.call('XINFO', 'STREAM', KEYS[1]), 'last-generated-id')
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if of(group, 'name') == ARGV[1] and is_less(last, of(group, 'last-delivered-id')) then
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], '0')
    return 1
  end
end
return 0
"""
_GONE = ("NOGROUP", "no such key", "stream key no longer exists")
"""UNBLOCKED alone does not say it: so is also told that a primary was demoted."""


def is_gone(error: Exception) -> bool:
    """Whether Redis says that the stream or the group is not there: it was flushed, or came back empty."""
    return any(words in str(error) for words in _GONE)


class Group:
    """One consumer of the group. Raises redis errors as they come; see `is_gone`."""

    def __init__(self, client: "redis.Redis", keys: Keys, consumer: str, name: str = GROUP) -> None:
        self.name = name
        self.consumer = consumer
        self._client = client
        self._events = keys.events

    def create(self) -> bool:
        """Make sure that the group is there; true when it was not.

        It begins with the first entry that the stream has, so that what was told before the first worker is not missed.
        """
        try:
            self._client.xgroup_create(self._events, self.name, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" in str(error):
                return False
            raise
        return True

    def rewind(self) -> bool:
        """Where the group stands beyond the end of the stream, and would never be given what comes next, have it begin
        with the first entry again, and return true. A Redis put together from two states can be like that.
        """
        return bool(self._client.eval(_REWIND, 1, self._events, self.name))

    def unread(self, count: int, block_ms: int) -> list[Entry]:
        """Entries that no consumer was given yet; waits for the first one."""
        return self._read(">", count, block_ms)

    def mine(self, after: str, count: int) -> list[Entry]:
        """Entries that this consumer was given, in this life or a former, and that are not acknowledged."""
        return self._read(after, count, None)

    def stale(self, idle: float, count: int) -> list[Entry]:
        """Take over entries that their consumers have not touched for `idle` seconds."""
        reply = self._client.xautoclaim(self._events, self.name, self.consumer, int(idle * 1000), "0", count)
        return _entries(reply[1])

    def held(self, count: int) -> set[str]:
        """Ids of the entries that are this consumer's."""
        reply = self._client.xpending_range(self._events, self.name, "-", "+", count, self.consumer)
        return {_text(item["message_id"]) for item in reply}

    def acknowledged(self, entries: Sequence[str]) -> list[str]:
        """Those of the entries that nobody holds any more."""
        pipeline = self._client.pipeline(transaction=False)
        for entry in entries:
            pipeline.xpending_range(self._events, self.name, entry, entry, 1)
        return [entry for entry, reply in zip(entries, pipeline.execute(), strict=True) if not reply]

    def touch(self, entries: Sequence[str]) -> None:
        """Say that these are alive. Not of those moved within the last second: a task elsewhere has just begun them."""
        if entries:
            self._client.xclaim(self._events, self.name, self.consumer, 1000, list(entries), justid=True)

    def release(self, entries: Sequence[str]) -> None:
        """Have others take these over at once: nothing here will end them."""
        if entries:
            self._client.xclaim(
                self._events, self.name, self.consumer, 0, list(entries), idle=FORGET_AFTER * 1000, justid=True
            )

    def lags(self) -> dict[str, int]:
        """Of each group of the stream, how many entries it has not acknowledged; without those that cannot be counted."""
        groups = self._client.xinfo_groups(self._events)
        return {
            _text(group["name"]): group["lag"] + group["pending"] for group in groups if group.get("lag") is not None
        }

    def forget_the_dead(self) -> None:
        """Remove consumers that hold nothing and have been silent for a day."""
        self._client.eval(_FORGET, 1, self._events, self.name, FORGET_AFTER * 1000)

    def _read(self, after: str, count: int, block_ms: int | None) -> list[Entry]:
        reply: Any = self._client.xreadgroup(
            self.name, self.consumer, {self._events: after}, count=count, block=block_ms
        )
        return _entries(reply[0][1]) if reply else []


def _entries(items: Any) -> list[Entry]:
    return [(_text(entry), fields or {}) for entry, fields in items if entry is not None]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
