"""A consumer group of the stream: every entry at least once, acknowledged when its handling is done.

join ─▶ this consumer's pending entries ─▶ new entries, and regularly those of dead consumers
  ▲                                            │
  └──── connection lost, or group deleted ◀────┘
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from jobcast.client.effects import Call, FeedState, Give, Operation, Ready
from jobcast.client.entry import Entry, Fields, entries_of, entries_read, text
from jobcast.redis.connection import ANSWER_SECONDS, ERRORS
from jobcast.wire import MalformedEvent, decode

BLOCK_SECONDS = 2.0
"""How long a read blocks: well below ANSWER_SECONDS, so that a quiet stream does not look like a dead connection."""
START_OF_STREAM = "0"
END_OF_STREAM = "$"


@dataclass(frozen=True, slots=True)
class Membership:
    """What a consumer reads, and how."""

    stream: str
    group: str
    consumer: str
    start: str
    """Where a new group begins."""
    batch: int
    claim_after: float
    """Seconds after which an entry pending at another consumer counts as abandoned."""
    is_acknowledging: bool
    """Acknowledge an entry when the next is asked for; else only `ack()` does."""


class GroupReader:
    """Reads as one consumer. `carry_out` runs an operation; an entry's `ack()` returns what it returns."""

    def __init__(self, of: Membership, state: FeedState, carry_out: Callable[[Operation[None]], Any]) -> None:
        self._of = of
        self._state = state
        self._carry_out = carry_out
        self._in_hand: set[str] = set()
        """Given and not acknowledged yet: this reader does not give them again."""
        self._done: list[str] = []
        """Still to be acknowledged; kept when the connection is lost."""
        self._claim_due = 0.0

    def run(self) -> Operation[None]:
        """Gives entries for ever."""
        start = self._of.start
        while True:
            try:
                yield from self._join(start)
                # If the group has to be created again, Redis lost it: nothing published since then was read by the group.
                start = START_OF_STREAM
                self._state.connected()
                yield Ready()
                yield from self._work()
            except ERRORS as error:
                if not str(error).startswith("NOGROUP"):
                    yield self._state.disconnected(error)

    def acknowledge(self, entry_id: str) -> Operation[None]:
        """Acknowledge one entry, retrying while Redis is unreachable."""
        while True:
            try:
                yield Call(("XACK", self._of.stream, self._of.group, entry_id))
            except ERRORS as error:
                yield self._state.disconnected(error)
            else:
                self._in_hand.discard(entry_id)
                return

    def _join(self, start: str) -> Operation[None]:
        try:
            yield Call(("XGROUP", "CREATE", self._of.stream, self._of.group, start, "MKSTREAM"))
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _work(self) -> Operation[None]:
        yield from self._acknowledge_done()
        while True:
            yield from self._resume_pending()
            fresh = True
            while fresh:
                if time.monotonic() >= self._claim_due:
                    yield from self._claim()
                entries = yield from self._read(">")
                fresh = yield from self._hand_out(entries, is_redelivered=False)

    def _resume_pending(self) -> Operation[None]:
        place = START_OF_STREAM
        while entries := (yield from self._read(place)):
            fresh = yield from self._hand_out(entries, is_redelivered=True)
            place = entries[-1].entry_id if fresh else START_OF_STREAM

    def _claim(self) -> Operation[None]:
        """Take over entries that other consumers hold for too long, and renew the claim on our own."""
        # A quarter: an abandoned entry is claimed at most a quarter later than asked for.
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

    def _read(self, place: str) -> Operation[list[Fields]]:
        of = self._of
        # Not past the next claim; and not 0, which Redis takes as forever.
        block = max(int(min(BLOCK_SECONDS, of.claim_after / 4) * 1000), 1)
        blocking = ("BLOCK", block) if place == ">" else ()
        reply = yield Call(
            ("XREADGROUP", "GROUP", of.group, of.consumer, "COUNT", of.batch, *blocking, "STREAMS", of.stream, place)
        )
        self._state.connected()
        return entries_read(reply)

    def _hand_out(self, entries: Sequence[Fields], *, is_redelivered: bool) -> Operation[bool]:
        """Give them one by one; False when this took so long that others may have claimed the rest."""
        stale = time.monotonic() + self._of.claim_after / 2
        for entry in entries:
            if entry.entry_id in self._in_hand:
                continue
            if time.monotonic() > stale:
                return False
            yield from self._give(entry, is_redelivered)
        return True

    def _give(self, entry: Fields, is_redelivered: bool) -> Operation[None]:
        entry_id = entry.entry_id
        try:
            if entry.event is None:
                raise MalformedEvent("an entry without an event")
            event = decode(entry.event)
        except MalformedEvent:
            if entry.is_expired:
                self._state.expired += 1
            else:
                self._state.malformed += 1
            self._done.append(entry_id)
        else:
            self._state.raw = entry.event
            self._in_hand.add(entry_id)
            yield Give(Entry(event, entry_id, entry.event, is_redelivered, self._ack))
            # The caller asks for the next one, so this one is handled.
            if self._of.is_acknowledging and entry_id in self._in_hand:
                self._in_hand.discard(entry_id)
                self._done.append(entry_id)
        yield from self._acknowledge_done()

    def _ack(self, entry_id: str) -> Any:
        return self._carry_out(self.acknowledge(entry_id))

    def _acknowledge_done(self) -> Operation[None]:
        if self._done:
            yield Call(("XACK", self._of.stream, self._of.group, *self._done))
            self._done.clear()


assert BLOCK_SECONDS < ANSWER_SECONDS
