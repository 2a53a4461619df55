"""The consumer groups of our streams: how far each lags, and whether it is dead.

Entries that a group has not read or acknowledged are not trimmed from the stream, unless the group is dead.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from jobcast.keys import Keys

if TYPE_CHECKING:
    import redis.asyncio

DEAD_SECONDS = 86_400.0
"""Longer than a failed evening deploy lasts until the morning; shorter than the week for which the stream is kept."""
_GONE = ("no such key", "NOGROUP")


class Consumer(NamedTuple):
    """One consumer of a group, as Redis knows it."""

    name: str
    pending: int
    """Entries that were delivered to it and not acknowledged."""
    silent: float
    """Seconds since it last asked for entries, with or without success."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group at one moment. Ages are by Redis' clock."""

    stream: str
    """The key."""
    name: str
    unread: int
    """Entries that were not delivered yet. An upper bound where Redis cannot count: after entries were deleted from the middle
    of the stream, or the group was moved."""
    pending: int
    """Entries that were delivered and not acknowledged."""
    last_delivered: str
    """Id of the last entry that was delivered."""
    oldest_pending: str | None
    """Id of the first entry that was delivered and not acknowledged; it may have been trimmed from the stream."""
    waiting: float
    """Seconds since that entry was published; 0 when there is none."""
    consumers: tuple[Consumer, ...]

    @property
    def lag(self) -> int:
        """Entries not acknowledged."""
        return self.unread + self.pending

    @property
    def silent(self) -> float | None:
        """Seconds since any of its consumers last asked for entries; None without consumers."""
        return min((consumer.silent for consumer in self.consumers), default=None)

    @property
    def is_dead(self) -> bool:
        """Whether it lags and has no living consumer: trimming does not wait for it.

        A group without consumers is dead as soon as it lags. A group that has read everything never is.
        """
        return self.lag > 0 and (self.silent is None or self.silent >= DEAD_SECONDS)


async def groups(client: "redis.asyncio.Redis", keys: Keys) -> list[GroupState]:
    """The groups of both streams, ordered by name. Raises redis errors.

    Takes two round trips: a group that was created or removed in between is left out.
    """
    found = []
    for stream in (keys.events, keys.replays):
        found += await _groups_of(client, stream)
    return found


async def _groups_of(client: "redis.asyncio.Redis", stream: str) -> list[GroupState]:
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.xlen(stream)
    pipeline.xrevrange(stream, count=1)
    pipeline.xinfo_groups(stream)
    now, length, last, infos = await _replies(pipeline)
    if not infos:
        return []
    last_id = _text(last[0][0]) if last else "0-0"
    pipeline = client.pipeline(transaction=False)
    for info in infos:
        pipeline.xinfo_consumers(stream, info["name"])
        pipeline.xpending(stream, info["name"])
    details = await _replies(pipeline)
    seconds = now[0] + now[1] / 1_000_000
    return [
        _state(stream, info, consumers, pending, length, last_id, seconds)
        for info, consumers, pending in zip(infos, details[::2], details[1::2], strict=True)
        if consumers is not None and pending is not None
    ]


def _state(stream: str, info: Any, consumers: Any, pending: Any, length: int, last_id: str, now: float) -> GroupState:
    delivered = _text(info["last-delivered-id"])
    unread = info.get("lag")
    if unread is None:
        unread = length if order(delivered) < order(last_id) else 0
    oldest = _text(pending["min"]) if pending["pending"] else None
    return GroupState(
        stream=stream,
        name=_text(info["name"]),
        unread=max(unread, 0),
        pending=pending["pending"],
        last_delivered=delivered,
        oldest_pending=oldest,
        waiting=max(now - order(oldest)[0] / 1000, 0.0) if oldest else 0.0,
        consumers=tuple(Consumer(_text(one["name"]), one["pending"], one["idle"] / 1000) for one in consumers),
    )


def order(entry_id: str) -> tuple[int, int]:
    """The sort key of entry ids: milliseconds, and a number within them."""
    millis, _, number = entry_id.partition("-")
    return int(millis), int(number or 0)


async def _replies(pipeline: Any) -> list[Any]:
    """None for a stream or group that does not exist."""
    replies = await pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception) and not any(words in str(reply) for words in _GONE):
            raise reply
    return [None if isinstance(reply, Exception) else reply for reply in replies]


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
