"""A consumer group of the stream: every entry at least once, acknowledged when its work is done.

join ─▶ what this consumer left pending ─▶ new entries, and now and then those that dead consumers left
  ▲                                              │
  └──── Redis was away, or forgot the group ◀────┘
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from jobcast.client.effects import Call, Give, Health, Program, Ready
from jobcast.client.entry import Entry, Fields, entries_of, entries_read, text
from jobcast.redis.connection import ANSWER_SECONDS, ERRORS
from jobcast.wire import MalformedEvent, decode

BLOCK_SECONDS = 2.0
"""How long Redis may keep us waiting for the next entry: well below ANSWER_SECONDS, else quiet would look like death."""
START_OF_STREAM = "0"
END_OF_STREAM = "$"


@dataclass(frozen=True, slots=True)
class Membership:
    """Who reads what, as whom, and how."""

    stream: str
    group: str
    consumer: str
    start: str
    """Where a group begins that does not exist yet."""
    batch: int
    claim_after: float
    """Seconds after which an entry that somebody holds counts as abandoned."""
    is_acknowledging: bool
    """Acknowledge an entry when the next is asked for; else only `ack()` does."""


class GroupReader:
    """One consumer at work. `carry_out` runs a program: what it returns is what an entry's `ack()` returns."""

    def __init__(self, of: Membership, health: Health, carry_out: Callable[[Program[None]], Any]) -> None:
        self._of = of
        self._health = health
        self._carry_out = carry_out
        self._in_hand: set[str] = set()
        """Given out and not yet acknowledged: not to be given twice by the same reader."""
        self._done: list[str] = []
        """To be acknowledged; kept over a loss of the connection."""
        self._claim_due = 0.0

    def run(self) -> Program[None]:
        """Gives entries for ever."""
        start = self._of.start
        while True:
            try:
                yield from self._join(start)
                # Should it have to be made again, Redis forgot it, and has what was told since: nobody of it saw that.
                start = START_OF_STREAM
                self._health.found()
                yield Ready()
                yield from self._work()
            except ERRORS as error:
                if not str(error).startswith("NOGROUP"):
                    yield self._health.lost(error)

    def acknowledge(self, entry_id: str) -> Program[None]:
        """Acknowledge one entry that is in hand, however long Redis is away."""
        while True:
            try:
                yield Call(("XACK", self._of.stream, self._of.group, entry_id))
            except ERRORS as error:
                yield self._health.lost(error)
            else:
                self._in_hand.discard(entry_id)
                return

    def _join(self, start: str) -> Program[None]:
        try:
            yield Call(("XGROUP", "CREATE", self._of.stream, self._of.group, start, "MKSTREAM"))
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _work(self) -> Program[None]:
        yield from self._settle()
        while True:
            yield from self._take_up_pending()
            fresh = True
            while fresh:
                if time.monotonic() >= self._claim_due:
                    yield from self._claim()
                entries = yield from self._read(">")
                fresh = yield from self._hand_out(entries, is_redelivered=False)

    def _take_up_pending(self) -> Program[None]:
        place = START_OF_STREAM
        while entries := (yield from self._read(place)):
            fresh = yield from self._hand_out(entries, is_redelivered=True)
            place = entries[-1].entry_id if fresh else START_OF_STREAM

    def _claim(self) -> Program[None]:
        """Take over what others hold for too long. Of our own, it renews what is in hand."""
        # A quarter, so that what is abandoned waits a quarter longer than asked for, at most.
        self._claim_due = time.monotonic() + self._of.claim_after / 4
        of, cursor = self._of, "0-0"
        while True:
            idle = int(of.claim_after * 1000)
            reply = yield Call(("XAUTOCLAIM", of.stream, of.group, of.consumer, idle, cursor, "COUNT", of.batch))
            if not (yield from self._hand_out(entries_of(reply[1]), is_redelivered=True)):
                self._claim_due = 0.0
                return
            cursor = text(reply[0])
            if cursor == "0-0":
                return

    def _read(self, place: str) -> Program[list[Fields]]:
        of = self._of
        # Not past the next look at what others hold; and not for 0, which Redis takes for ever.
        block = max(int(min(BLOCK_SECONDS, of.claim_after / 4) * 1000), 1)
        blocking = ("BLOCK", block) if place == ">" else ()
        reply = yield Call(
            ("XREADGROUP", "GROUP", of.group, of.consumer, "COUNT", of.batch, *blocking, "STREAMS", of.stream, place)
        )
        self._health.found()
        return entries_read(reply)

    def _hand_out(self, entries: Sequence[Fields], *, is_redelivered: bool) -> Program[bool]:
        """Give them one by one; False when the work took so long that others may have claimed the rest meanwhile."""
        stale = time.monotonic() + self._of.claim_after / 2
        for entry in entries:
            if entry.entry_id in self._in_hand:
                continue
            if time.monotonic() > stale:
                return False
            yield from self._give(entry, is_redelivered)
        return True

    def _give(self, entry: Fields, is_redelivered: bool) -> Program[None]:
        entry_id = entry.entry_id
        try:
            if entry.event is None:
                raise MalformedEvent("an entry without an event")
            event = decode(entry.event)
        except MalformedEvent:
            if entry.is_expired:
                self._health.expired += 1
            else:
                self._health.malformed += 1
            self._done.append(entry_id)
        else:
            self._health.raw = entry.event
            self._in_hand.add(entry_id)
            yield Give(Entry(event, entry_id, entry.event, is_redelivered, self._ack))
            # The next one is asked for, so the work on this one is done.
            if self._of.is_acknowledging and entry_id in self._in_hand:
                self._in_hand.discard(entry_id)
                self._done.append(entry_id)
        yield from self._settle()

    def _ack(self, entry_id: str) -> Any:
        return self._carry_out(self.acknowledge(entry_id))

    def _settle(self) -> Program[None]:
        if self._done:
            yield Call(("XACK", self._of.stream, self._of.group, *self._done))
            self._done.clear()


assert BLOCK_SECONDS < ANSWER_SECONDS
