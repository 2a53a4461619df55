"""From an entry to its targets: which of them want it, what has ended, and dead letters for what cannot be read or sent.

Nothing here waits or reads the stream; the consumer does.
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
from worker.handler_target import Target
from worker.in_flight import InFlight, InFlightEntries
from worker.outcome import Handed
from worker.route_target import Refused, Unreachable
from worker.scripts import Call

log = logging.getLogger(__name__)


class Dispatcher:
    """Of one group and one thread. Raises what Redis and the broker raise; the entry is handed out again then."""

    def __init__(
        self,
        context: WorkerContext,
        entries: Entries,
        in_flight: InFlightEntries[Target],
        targets: list[Target],
    ) -> None:
        self._context = context
        self._entries = entries
        self._in_flight = in_flight
        self._targets = targets
        self.has_tasks = any(target.ends_with_its_task for target in targets)
        self._ends: dict[tuple[str, str], None] = {}
        """Entries and their targets that have ended, not yet reported to Redis; without a target the whole entry has."""
        self._others: set[str] = set()
        """Handlers and routes of other groups, as read last."""
        self.moved: set[str] = set()
        """Evaluations of which an entry has ended: the next one is not yet requested."""
        self.of_task: dict[Handed, str] = {}
        """The target of each task that is on its way."""

    @property
    def has_news(self) -> bool:
        """Whether there is something to report to Redis, or to request."""
        return bool(self._ends or self.moved)

    def finishing(self) -> list[Call]:
        """Reports the ends to Redis; call `mark_reported` after that."""
        return [self._entries.finishing(entry, target) for entry, target in self._ends]

    def mark_reported(self) -> set[str]:
        """Redis knows of the ends, and was asked for what follows. Returns the entries."""
        entries = {entry for entry, _ in self._ends}
        self._ends.clear()
        self.moved.clear()
        for entry in entries:
            if self._in_flight.is_over(entry):
                self._in_flight.ended(entry)
        return entries

    def forget(self) -> None:
        self._in_flight.clear()
        self._ends.clear()
        self.moved.clear()
        self.of_task.clear()

    def take(self, entries: list[Entry], again: Collection[str]) -> None:
        """Put them on their way. Those of `again` may have been handed out before: some of their targets may have ended."""
        for entry, fields in entries:
            if entry in self._in_flight:
                continue
            eval_id = fields.get(b"eval_id", b"").decode(errors="surrogateescape")
            if not fields:  # trimmed: nothing is left to hand out
                self._end(entry, "", eval_id)
                continue
            body = fields.get(b"event")
            try:
                if body is None:
                    raise wire.MalformedEvent("the entry has no field `event`")
                event, text = wire.decode(body), body.decode()
            except Exception as error:  # even deeply nested JSON must not hold up those behind it
                if self._entries.group == GROUP:
                    self._dead_letter(entry, eval_id, body or b"", str(error) or type(error).__name__)
                else:
                    self._end(entry, "", eval_id)  # one dead letter does for all groups
                continue
            only = fields.get(b"handler", b"").decode(errors="replace") if entry.startswith(REPLAY) else ""
            if only and all(target.name != only for target in self._targets):
                self._reject_replay(entry, eval_id, body, only)
                continue
            wanting = tuple(target for target in self._targets if only in ("", target.name) and target.wants(event))
            if wanting:
                self._in_flight.add(InFlight(entry, event.id, eval_id, text, wanting, entry in again))
            else:
                self._end(entry, "", eval_id)

    def _end(self, entry: str, target: str, eval_id: str) -> None:
        self._ends[entry, target] = None
        self.moved.add(eval_id)

    def _reject_replay(self, entry: str, eval_id: str, body: bytes, handler: str) -> None:
        """A replay for a handler that is not of this group. If it is of no group, the workers' own group writes the dead
        letter, so that there is one."""
        if self._entries.group == GROUP and not self._is_of_another_group(handler):
            self._dead_letter(entry, eval_id, body, "no handler or route has this name", handler)
        else:
            self._end(entry, "", eval_id)

    def _is_of_another_group(self, handler: str) -> bool:
        """Whether a worker serves it, or did within a day, in another group. Many replays may name the same one."""
        if handler not in self._others:
            members = decode_members(self._entries.client.hgetall(self._entries.keys.parts).values())
            groups = {name: member.handlers[name].group for name, member in latest_handlers(members).items()}
            self._others = {name for name, group in groups.items() if group != self._entries.group}
        return handler in self._others

    def _dead_letter(self, entry: str, eval_id: str, body: bytes | str, reason: str, handler: str = "") -> None:
        self.moved.add(eval_id)
        if self._entries.dead_letter(entry, handler, event=body, reason=reason):
            metrics.dead_letters.inc()
            log.error(
                "entry moved to the dead letters", extra={"entry": entry, "handler": handler or None, "reason": reason}
            )

    def hand_out(self) -> Iterator[None]:
        """Hand out all that is ready. Yields after each, because a broker may be slow."""
        if not self._in_flight.has_ready or (self.has_tasks and not self._context.transport.is_open):
            return
        ready = self._in_flight.ready()
        left = self._left_of([item for item in ready if item.is_again or len(item.targets) > 1])
        with self._context.celery.producer_pool.acquire(block=True) as producer:
            for item in ready:
                opened = left.get(item.entry)
                if opened is not None and not opened.left:
                    self._in_flight.ended(item.entry)
                    if not opened.waiting:  # else a later heartbeat finds it again
                        self.moved.add(item.eval_id)
                    continue
                try:
                    self._hand(item, opened.left if opened else None, producer)
                except Unreachable:
                    item.is_again = True  # it stays ready, and some of its targets may have it
                    return  # its broker knows when to retry
                except UNREACHABLE:
                    item.is_again = True
                    raise
                except Exception as error:  # it can never be sent: it must not hold up those behind it
                    reason = f"it cannot be handed out: {type(error).__name__}: {error}"
                    self._dead_letter(item.entry, item.eval_id, item.body, reason)
                    self._in_flight.ended(item.entry)
                    continue
                self._in_flight.mark_sent(item, time.monotonic())
                yield

    def _left_of(self, in_flight: list[InFlight[Target]]) -> dict[str, Opened]:
        """Which targets of each have not ended. Those that are not registered any more get a dead letter."""
        opened = self._entries.open_all([(item.entry, [target.name for target in item.targets]) for item in in_flight])
        for item, its in zip(in_flight, opened, strict=True):
            for unknown in its.unknown:
                reason = "its handler is not registered any more"
                self._dead_letter(item.entry, item.eval_id, item.body, reason, unknown)
        return {item.entry: its for item, its in zip(in_flight, opened, strict=True)}

    def _hand(self, item: InFlight[Target], left: list[str] | None, producer: Any) -> None:
        """Hand it to the targets that have not ended and do not have it yet; `left` of it are those whose end is awaited."""
        if left is not None:
            item.left.intersection_update(left)
        for target in item.targets:
            if target.name in item.left or (left is not None and target.name not in left):
                continue
            try:
                task_id = target.hand(item, producer)
            except Refused as error:
                self._dead_letter(item.entry, item.eval_id, item.body, str(error), target.name)
                self._end(item.entry, target.name, item.eval_id)
                continue
            if target.ends_with_its_task:
                self.of_task[task_id, item.entry] = target.name
                # At once: an unreachable broker may delay the next one.
                item.left.add(target.name)
            else:
                self._end(item.entry, target.name, item.eval_id)
