"""The controllers and workers under one prefix, as they say themselves in Redis: which there are, and whether they fit together.

Each says every few seconds that it is there, and is told of the others in the same round trip. Who is silent for longer than
`GONE_SECONDS` is not there any more. Ages are by Redis' clock.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

EVERY_SECONDS = 10.0
GONE_SECONDS = 30.0
"""Two of three words may be lost or late."""
KEPT_SECONDS = 86_400
"""For a day it can be said when a part, or a handler, was last there."""
CONTROLLER, WORKER = "controller", "worker"

PRUNE = """
-- Of a hash of JSON objects: whatever was not `seen` for so many seconds goes, and what strangers left. Returns Redis' time.
local function prune(hash, kept)
  local now = tonumber(redis.call('TIME')[1])
  local kind = redis.call('TYPE', hash)['ok']
  if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', hash) end
  local known = redis.call('HGETALL', hash)
  for i = 1, #known, 2 do
    local is_json, said = pcall(cjson.decode, known[i + 1])
    local seen = is_json and type(said) == 'table' and tonumber(said.seen)
    if not seen or seen < now - kept then redis.call('HDEL', hash, known[i]) end
  end
  return now
end
"""
"""In Lua, for a script to begin with."""

# An empty name says nothing and only asks; a part that leaves says no text.
SCRIPT = (
    PRUNE
    + """
local parts, kept, name, text = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local now = prune(parts, kept)
if text == '' then
  redis.call('HDEL', parts, name)
else
  redis.call('HSET', parts, name, text:sub(1, -2) .. ',"seen":' .. now .. '}')
  redis.call('EXPIRE', parts, kept)
end
return { now, redis.call('HGETALL', parts) }
"""
)


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One controller or worker."""

    kind: str
    """CONTROLLER or WORKER."""
    name: str
    """Of the Pod, or of the host and process; one live part of a kind has it."""
    version: str
    started: str = ""
    """RFC 3339, by its own clock: for information."""
    namespaces: tuple[str, ...] = ()
    """That it looks at; `*` is all. Empty for a worker that does not sweep."""
    selector: str = ""
    cluster: str = ""
    """The same for all who talk to the same cluster."""
    seen: float = 0.0
    """Unix seconds, by Redis' clock."""

    @property
    def field(self) -> str:
        return f"{self.kind}:{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def watches(self) -> str:
        """For people; nothing where it does not look."""
        return f"{self.selector} in {', '.join(self.namespaces)}" if self.namespaces else ""


_decoder = msgspec.json.Decoder(Member)


def joining(part: Member) -> tuple[int, str, bytes]:
    """Arguments of SCRIPT that say that it is there."""
    return KEPT_SECONDS, part.field, msgspec.json.encode(part)


def leaving(part: Member) -> tuple[int, str, bytes]:
    """Arguments of SCRIPT that say that it is not there any more."""
    return KEPT_SECONDS, part.field, b""


def there(reply: Any) -> list[Member]:
    """Those that are there now, of SCRIPT's reply."""
    now, fields = reply
    return [part for part in known(fields[1::2]) if int(now) - part.seen <= GONE_SECONDS]


def known(values: Iterable[bytes | str]) -> list[Member]:
    """Those that were there within a day, in the order of their kinds and names; without what strangers wrote."""
    found = []
    for value in values:
        try:
            found.append(_decoder.decode(value))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return sorted(found, key=lambda part: part.field)


def conflicts(parts: Sequence[Member]) -> list[str]:
    """What is wrong with these parts under one prefix, each with what to do. The same parts give the same texts."""
    return [*_strangers(parts), *_versions(parts)]


def _strangers(parts: Sequence[Member]) -> list[str]:
    """Two installations under one prefix: subscribers cannot tell them apart, and each looks after the other's Jobs."""
    looking = [part for part in parts if part.namespaces]
    clusters = {part.cluster: part for part in looking if part.cluster}
    if len(clusters) > 1:
        one, other, *_ = clusters.values()
        return [f"{one} and {other} share this prefix and watch different clusters: give each its own KEY_PREFIX"]
    kinds = {(frozenset(part.namespaces), _normal(part.selector)): part for part in reversed(looking)}
    if len(kinds) > 1:
        other, one = list(kinds.values())[-2:]
        return [
            f"two installations share this prefix: {one} watches {one.watches}, {other} watches {other.watches};"
            " give each its own KEY_PREFIX, or both the same NAMESPACES and LABEL_SELECTOR"
        ]
    return []


def _versions(parts: Sequence[Member]) -> list[str]:
    by_version = {part.version: part for part in reversed(parts)}
    if len(by_version) < 2:
        return []
    oldest, *_, newest = sorted(by_version.values(), key=lambda part: _order(part.version))
    return [
        f"an older {oldest.kind} ({oldest.version}, {oldest.name}) runs beside a newer {newest.kind}"
        f" ({newest.version}, {newest.name}): bring both to the same version"
    ]


def _normal(selector: str) -> tuple[str, ...]:
    """Without blanks, in any order of its requirements; commas within parentheses are rare, and sorted all the same."""
    return tuple(sorted("".join(selector.split()).replace("==", "=").split(",")))


def _order(version: str) -> tuple[list[int], str]:
    """What versions are compared by: their numbers, then their text."""
    return [int(number) for number in version.split("+")[0].split(".") if number.isdecimal()], version


class Membership:
    """What one part hears of the others, and of itself."""

    def __init__(self) -> None:
        self.parts: list[Member] = []
        self.misfits: list[str] = []
        """What is wrong with them, each with what to do."""

    def shown(self) -> list[dict[str, str]]:
        """Those who are there, for people."""
        return [{"part": str(part), "version": part.version, "watches": part.watches} for part in self.parts]

    def heard(self, reply: Any) -> tuple[list[str], list[str]]:
        """Of SCRIPT's reply, which misfits are new, and which are no more."""
        before, self.parts = self.misfits, there(reply)
        self.misfits = conflicts(self.parts)
        return [one for one in self.misfits if one not in before], [one for one in before if one not in self.misfits]
