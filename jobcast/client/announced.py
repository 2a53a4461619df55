"""The handlers and routes that workers serve, as their membership says, and which of them a person means."""

from collections.abc import Iterable
from typing import NamedTuple

from jobcast.client.effects import Call, Operation
from jobcast.client.entry import data
from jobcast.client.record import fields_of, retry_once
from jobcast.keys import Keys
from jobcast.service.membership import Member, decode_members, latest_handlers

GONE_SECONDS = 60.0
"""Workers register every ten seconds: a handler that none has named for so long is not served."""


class Announced(NamedTuple):
    """A handler, or a route, that a worker served within a day."""

    name: str
    group: str
    """The consumer group that it is served by."""
    statuses: tuple[str, ...]
    """Of the events that it wants, if nothing else about them keeps it from that."""
    seen: float
    """Unix seconds, by Redis' clock."""
    age: float
    """Seconds since then."""

    @property
    def is_there(self) -> bool:
        """Whether a worker serves it, or did a minute ago: one that restarts has left for a moment."""
        return self.age < GONE_SECONDS


def announced(keys: Keys) -> Operation[list[Announced]]:
    """In the order of their names. Raises Unavailable or Refused."""

    def ask() -> Operation[list[Announced]]:
        fields = yield from fields_of(keys.parts)
        now = yield from clock()
        latest = latest_handlers(decode_members(data(value) or b"" for value in fields.values()))
        return [_announced(name, member, now) for name, member in sorted(latest.items())]

    return retry_once(ask)


def clock() -> Operation[float]:
    """Redis' own time, which its entries' ids are of: Unix seconds. Raises what redis-py raises."""
    seconds, microseconds = yield Call(("TIME",))
    return float(seconds) + float(microseconds) / 1_000_000


def named(asked_for: str, names: Iterable[str]) -> str:
    """The one of the names that is meant: by all of it, or by its last part. Raises ValueError, listing them."""
    known = sorted(set(names))
    if asked_for in known:
        return asked_for
    meant = [name for name in known if asked_for in _short(name)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise ValueError(f"{asked_for!r} may be {' or '.join(meant)}")
    raise ValueError(f"no handler {asked_for!r} is known; there is {', '.join(known) if known else 'none'}")


def _short(name: str) -> set[str]:
    """`score` for `my_handlers.score`; `shop.pay@bills`, `shop.pay` and `pay` for `route:shop.pay@bills`."""
    if not name.startswith("route:"):
        return {name.rpartition(".")[2]}
    task = name.removeprefix("route:")
    without_queue = task.rpartition("@")[0]
    return {task, without_queue, without_queue.rpartition(".")[2]} - {""}


def _announced(name: str, member: Member, now: float) -> Announced:
    handler = member.handlers[name]
    return Announced(name, handler.group, handler.statuses, member.seen, max(now - member.seen, 0.0))
