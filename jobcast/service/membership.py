"""The processes that share a prefix, as each registers itself in Redis, and whether they conflict. Pure.

A member registers every `EVERY_SECONDS` and reads the others in the same round trip. One that is silent for `GONE_SECONDS` is
gone. Ages are by Redis' clock.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

EVERY_SECONDS = 10.0
GONE_SECONDS = 30.0
"""Two of three registrations may be lost or late."""
KEPT_SECONDS = 86_400
"""For a day a person can ask when a member, or a handler, was last there."""
CONTROLLER, WORKER = "controller", "worker"

# Removes members that were not seen for a day, and values that are no members.
SCRIPT = """
local members, kept, gone, name, text = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = tonumber(redis.call('TIME')[1])
local kind = redis.call('TYPE', members)['ok']
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', members) end
if text == '' then
  redis.call('HDEL', members, name)
else
  redis.call('HSET', members, name, text:sub(1, -2) .. ',"seen":' .. now .. '}')
  redis.call('EXPIRE', members, kept)
end
local there, known = {}, redis.call('HGETALL', members)
for i = 1, #known, 2 do
  local is_json, member = pcall(cjson.decode, known[i + 1])
  local seen = is_json and type(member) == 'table' and tonumber(member.seen)
  if not seen or seen < now - kept then
    redis.call('HDEL', members, known[i])
  elseif seen >= now - gone and not member.left then
    there[#there + 1] = known[i + 1]
  end
end
return there
"""
"""Registers a member and returns those that are there now. An empty text removes the member."""


class Handler(msgspec.Struct, frozen=True):
    """A handler or a route that a worker serves."""

    statuses: tuple[str, ...]
    group: str
    """Its consumer group."""


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One controller or worker."""

    kind: str
    """CONTROLLER or WORKER."""
    name: str
    """Of the Pod, or of the host and process; unique among the live members of a kind."""
    version: str
    started: str = ""
    """RFC 3339, by its own clock: for information."""
    namespaces: tuple[str, ...] = ()
    """That it watches; `*` is all. Empty for a worker that does not sweep."""
    selector: str = ""
    cluster: str = ""
    """The same for all who talk to the same cluster."""
    handlers: dict[str, Handler] = {}
    """By name; a worker's."""
    seen: float = 0.0
    """Unix seconds, by Redis' clock."""
    left: bool = False
    """It has stopped in good order; its handlers stay known for a day."""

    @property
    def field(self) -> str:
        return f"{self.kind}:{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def watches(self) -> str:
        """For people; empty where it does not watch."""
        return f"{self.selector} in {', '.join(self.namespaces)}" if self.namespaces else ""

    def is_there(self, now: float) -> bool:
        return not self.left and now - self.seen <= GONE_SECONDS


_decoder = msgspec.json.Decoder(Member)
Arguments = tuple[int, float, str, bytes]
"""Of SCRIPT."""


def joining(member: Member) -> Arguments:
    """Arguments that register it."""
    return KEPT_SECONDS, GONE_SECONDS, member.field, msgspec.json.encode(member)


def leaving(member: Member) -> Arguments:
    """Arguments that say that it has stopped."""
    if not member.handlers:
        return KEPT_SECONDS, GONE_SECONDS, member.field, b""
    return joining(msgspec.structs.replace(member, left=True))


def decode_members(values: Iterable[bytes | str]) -> list[Member]:
    """In the order of their kinds and names; without values that are no members."""
    found = []
    for value in values:
        try:
            found.append(_decoder.decode(value))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return sorted(found, key=lambda member: member.field)


def latest_handlers(members: Iterable[Member]) -> Mapping[str, Member]:
    """By the name of a handler the member that served it last; one that still does comes before one that has left."""
    latest: dict[str, Member] = {}
    for member in sorted(members, key=lambda member: (not member.left, member.seen)):
        latest.update(dict.fromkeys(member.handlers, member))
    return latest


def find_conflicts(members: Sequence[Member]) -> list[str]:
    """What is wrong with these members under one prefix, each with what to do. The same members give the same texts."""
    return [*_two_installations(members), *_versions(members)]


def _two_installations(members: Sequence[Member]) -> list[str]:
    """Subscribers cannot keep them apart, and each publishes about the other's Jobs."""
    watching = [member for member in members if member.namespaces]
    clusters = {member.cluster: member for member in watching if member.cluster}
    if len(clusters) > 1:
        one, other, *_ = clusters.values()
        return [f"{one} and {other} share this prefix and watch different clusters: give each its own KEY_PREFIX"]
    kinds = {(frozenset(member.namespaces), _normal(member.selector)): member for member in reversed(watching)}
    if len(kinds) > 1:
        other, one = list(kinds.values())[-2:]
        return [
            f"two installations share this prefix: {one} watches {one.watches}, {other} watches {other.watches};"
            " give each its own KEY_PREFIX, or both the same NAMESPACES and LABEL_SELECTOR"
        ]
    return []


def _versions(members: Sequence[Member]) -> list[str]:
    by_version = {member.version: member for member in reversed(members)}
    if len(by_version) < 2:
        return []
    oldest, *_, newest = sorted(by_version.values(), key=lambda member: _order(member.version))
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
    """What one process knows of the others, and of itself."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        """Those that are there."""
        self.conflicts: list[str] = []
        """What is wrong with them, each with what to do."""

    def shown(self) -> list[dict[str, str]]:
        """For people."""
        return [{"member": str(one), "version": one.version, "watches": one.watches} for one in self.members]

    def update(self, reply: Iterable[bytes | str]) -> tuple[list[str], list[str]]:
        """With SCRIPT's reply. Returns the conflicts that are new, and those that are resolved."""
        before, self.members = self.conflicts, decode_members(reply)
        self.conflicts = find_conflicts(self.members)
        new = [one for one in self.conflicts if one not in before]
        return new, [one for one in before if one not in self.conflicts]
