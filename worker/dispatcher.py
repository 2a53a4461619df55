"""From an entry to its targets: which of them want it, what becomes of one that nobody can read or send, and what has ended.

Nothing here waits or asks what is to be read; that is the bridge's.
"""

import logging
import time
from collections.abc import Collection, Iterator
from typing import Any

from jobcast import wire
from jobcast.keys import GROUP
from jobcast.service.availability import UNREACHABLE
from jobcast.service.membership import decode_members, latest_handlers
from worker import metrics
from worker.context import WorkerContext
from worker.entries import Entries, Opened
from worker.group import REPLAY, Entry
from worker.handler_target import Target, producing
from worker.in_flight import InFlight, InFlightEntries
from worker.outcome import Handed
from worker.route_target import Refused, Unreachable
from worker.scripts import Call

log = logging.getLogger(__name__)


class Dispatcher:
    """Of one group and one thread. Raises what Redis and the broker raise; what it was about comes again then."""

    def __init__(
        self,
        context: WorkerContext,
        entries: Entries,
        flights: InFlightEntries[Target],
        targets: list[Target],
    ) -> None:
        self._context = context
        self._entries = entries
        self._flights = flights
        self._targets = targets
        self._has_tasks = any(target.ends_with_its_task for target in targets)
        self._ends: dict[tuple[str, str], None] = {}
        """Entries and their targets that have ended, not yet told to Redis; with no target the whole entry has."""
        self._others: set[str] = set()
        """Handlers and routes of other groups, as read last."""
        self.moved: set[str] = set()
        """Evaluations of which an entry has ended, not yet asked for the next one."""
        self.of_task: dict[Handed, str] = {}
        """The target of each task that is on its way."""

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell Redis, or to ask it for."""
        return bool(self._ends or self.moved)

    def finishing(self) -> list[Call]:
        """What Redis is to be told; after that `told`."""
        return [self._entries.finishing(entry, target) for entry, target in self._ends]

    def told(self) -> set[str]:
        """Redis knows of the ends, and has been asked for what follows. Returns the entries."""
        entries = {entry for entry, _ in self._ends}
        self._ends.clear()
        self.moved.clear()
        for entry in entries:
            if self._flights.is_over(entry):
                self._flights.ended(entry)
        return entries

    def forget(self) -> None:
        self._flights.clear()
        self._ends.clear()
        self.moved.clear()
        self.of_task.clear()

    def take(self, entries: list[Entry], again: Collection[str]) -> None:
        """Put them on their way. Those of `again` may have been handed out before: some of their targets may have ended."""
        for entry, fields in entries:
            if entry in self._flights:
                continue
            lane = fields.get(b"eval_id", b"").decode(errors="surrogateescape")
            if not fields:  # trimmed: there is nothing left to hand out
                self._end(entry, "", lane)
                continue
            body = fields.get(b"event")
            try:
                if body is None:
                    raise wire.MalformedEvent("the entry has no field `event`")
                event, text = wire.decode(body), body.decode()
            except Exception as error:  # a bomb of nested JSON too must not hold up those behind it
                if self._entries.group == GROUP:
                    self._set_aside(entry, lane, body or b"", str(error) or type(error).__name__)
                else:
                    self._end(entry, "", lane)  # one letter says it for all groups
                continue
            only = fields.get(b"handler", b"").decode(errors="replace") if entry.startswith(REPLAY) else ""
            if only and all(target.name != only for target in self._targets):
                self._refuse(entry, lane, body, only)
                continue
            wanting = tuple(target for target in self._targets if only in ("", target.name) and target.wants(event))
            if wanting:
                self._flights.add(InFlight(entry, event.id, lane, text, wanting, entry in again))
            else:
                self._end(entry, "", lane)

    def _end(self, entry: str, target: str, lane: str) -> None:
        self._ends[entry, target] = None
        self.moved.add(lane)

    def _refuse(self, entry: str, lane: str, body: bytes, handler: str) -> None:
        """A replay for a handler that is not of this group. One that is of none becomes a dead letter, of the workers' own
        group alone, so that there is one."""
        if self._entries.group == GROUP and not self._is_of_another_group(handler):
            self._set_aside(entry, lane, body, "no handler or route has this name", handler)
        else:
            self._end(entry, "", lane)

    def _is_of_another_group(self, handler: str) -> bool:
        """Whether a worker serves it, or did within a day, in another group. Many replays may name the same one."""
        if handler not in self._others:
            members = decode_members(self._entries.client.hgetall(self._entries.keys.parts).values())
            groups = {name: member.handlers[name].group for name, member in latest_handlers(members).items()}
            self._others = {name for name, group in groups.items() if group != self._entries.group}
        return handler in self._others

    def _set_aside(self, entry: str, lane: str, body: bytes | str, reason: str, handler: str = "") -> None:
        self.moved.add(lane)
        if self._entries.dead_letter(entry, handler, event=body, reason=reason):
            metrics.dead_letters.inc()
            log.error(
                "entry put with the dead letters", extra={"entry": entry, "handler": handler or None, "reason": reason}
            )

    def hand_out(self) -> Iterator[None]:
        """Hand out all that is ready; comes back after each, because a broker may be slow."""
        if not self._flights.has_ready or (self._has_tasks and not self._context.transport.is_open):
            return
        ready = self._flights.ready()
        left = self._left_of([flight for flight in ready if flight.is_again or len(flight.targets) > 1])
        with producing(self._context.celery) as producer:
            for flight in ready:
                opened = left.get(flight.entry)
                if opened is not None and not opened.left:
                    self._flights.ended(flight.entry)
                    if not opened.waiting:  # else a heartbeat finds it again
                        self.moved.add(flight.eval_id)
                    continue
                try:
                    self._hand(flight, opened.left if opened else None, producer)
                except Unreachable:
                    flight.is_again = True  # it stays the next, and some of its targets may have it
                    return  # its outlet knows when to try again
                except UNREACHABLE:
                    flight.is_again = True
                    raise
                except Exception as error:  # nobody can send it: it must not hold up those behind it
                    reason = f"it cannot be handed out: {type(error).__name__}: {error}"
                    self._set_aside(flight.entry, flight.eval_id, flight.body, reason)
                    self._flights.ended(flight.entry)
                    continue
                self._flights.departed(flight, time.monotonic())
                yield

    def _left_of(self, flights: list[InFlight[Target]]) -> dict[str, Opened]:
        """Which targets of each have not ended. Strangers end here."""
        opened = self._entries.open_all(
            [(flight.entry, [target.name for target in flight.targets]) for flight in flights]
        )
        for flight, its in zip(flights, opened, strict=True):
            for stranger in its.strangers:
                reason = "its handler is not registered any more"
                self._set_aside(flight.entry, flight.eval_id, flight.body, reason, stranger)
        return {flight.entry: its for flight, its in zip(flights, opened, strict=True)}

    def _hand(self, flight: InFlight[Target], left: list[str] | None, producer: Any) -> None:
        """Hand it to those who have not ended and do not have it; whose end is to be waited for is `left` of it."""
        if left is not None:
            flight.left.intersection_update(left)
        for target in flight.targets:
            if target.name in flight.left or (left is not None and target.name not in left):
                continue
            try:
                task_id = target.hand(flight, producer)
            except Refused as error:
                self._set_aside(flight.entry, flight.eval_id, flight.body, str(error), target.name)
                self._end(flight.entry, target.name, flight.eval_id)
                continue
            if target.ends_with_its_task:
                self.of_task[task_id, flight.entry] = target.name
                # At once: a broker that is away may keep the next one waiting.
                flight.left.add(target.name)
            else:
                self._end(flight.entry, target.name, flight.eval_id)
