"""From the stream to Celery: one thread that reads entries, hands them out, and keeps alive what is in flight.

What it promises: an entry is handed out until it is acknowledged, whatever is lost on the way: a task, a process, the
broker's memory, this worker. What it does not: once only.
"""

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from jobcast import wire
from jobcast.connection import connect_plain, explain
from jobcast.keys import GROUP
from worker import metrics
from worker.announce import Announcer
from worker.entries import Entries
from worker.flights import Flight, Flights
from worker.group import Entry, Group, is_gone
from worker.outcome import Handed
from worker.outlets import Refused, Unreachable
from worker.presence import AWAY
from worker.queues import own_queue
from worker.supervisor import Supervised
from worker.targets import Target, producing

if TYPE_CHECKING:
    from worker.app import WorkerApp

log = logging.getLogger(__name__)

BATCH = 64
"""Entries in one reading: enough to share its cost, few enough that the first does not wait for the last."""
BLOCK_SECONDS = 1.0
"""The longest that a reading waits; below the socket's timeout, and what a stop may cost."""
WAIT_SECONDS = (0.002, 0.05)
"""Shortest and longest wait while an entry waits for its turn: every event's latency is in the first, idle CPU in the
second."""
PAUSE_SECONDS = (0.05, 0.25)
"""First and longest pause while Redis is away: the longest is what an event may wait for us after Redis is back."""
OVERDUE_SECONDS = 30.0
"""A round takes a second, or as long as Redis and the broker may take to answer nothing, 10 s; this is a thread stuck."""
BEATS = 6
"""Heartbeats within TAKEOVER_SECONDS: five may be lost to a slow Redis before others take over."""


class Bridge:
    """Start and stop it with the worker. `targets` are asked in their order. Several may run beside each other, each with
    a group of its own; at most one of them has targets that end with their tasks."""

    def __init__(self, app: "WorkerApp", consumer: str, targets: list[Target], group: str = GROUP) -> None:
        settings = app.jobcast
        self._app = app
        self._targets = targets
        self._client = connect_plain(settings.redis_url, prefix=settings.key_prefix)
        self._group = Group(self._client, app.keys, consumer, group)
        self._entries = Entries(self._client, app.keys, max_age=settings.stream_max_seconds, group=group)
        self._announcer = Announcer(self._client, app.keys, group, targets)
        self._flights: Flights[Target] = Flights(settings.worker_prefetch)
        has_tasks = any(target.ends_with_its_task for target in targets)
        self._own_queue = own_queue(settings.key_prefix, consumer) if has_tasks else None
        self._takeover = settings.takeover_seconds
        self._heard: queue.SimpleQueue[tuple[Handed, bool] | tuple[frozenset[Handed], float]] = queue.SimpleQueue()
        self._of_task: dict[Handed, str] = {}
        """The target of each task that is on its way."""
        self._behind: str | None = None
        """While entries of our own are read again: the last one read."""
        self._wait = WAIT_SECONDS[0]
        self._next_beat = 0.0
        self._stop = threading.Event()
        self._thread = Supervised("bridge" if group == GROUP else f"bridge {group}", self._run, self._stop)
        self.last_round = time.monotonic()
        """When the thread last came round, by the monotonic clock; also while Redis is away."""

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Read no more. What is in flight ends by itself."""
        self._stop.set()

    def stop(self, running: frozenset[Handed]) -> None:
        """Returns when the thread has ended, or cannot be waited for any longer.

        What was handed out and is not `running` will not end here: others may take it over at once.
        """
        self._stop.set()
        self._thread.join(BLOCK_SECONDS + 5)
        try:
            self._listen(0)
            kept = {entry for _, entry in running}
            self._group.release([flight.entry for flight in self._flights if flight.entry not in kept])
            self._empty_own_queue()
        except AWAY as error:
            log.warning("could not hand back what is left, others will take it over", extra={"error": explain(error)})
        self._client.close()

    def heard(self, task: Handed, *, lost: bool) -> None:
        """A task of this worker ended, or was lost. From any thread."""
        self._heard.put((task, lost))

    def lost_all_but(self, running: frozenset[Handed]) -> None:
        """Celery begins to read, at first or because the broker was away: of the tasks that this worker had been given, only the
        running ones are left.

        What survived in its queue, in this life or from a former, is emptied out, so that nothing is there twice. Raises
        what the broker raises.
        """
        self._empty_own_queue()
        self._heard.put((running, time.monotonic()))

    def ailment(self) -> str | None:
        """What is wrong with the thread, or None. Redis being away is not."""
        age = time.monotonic() - self.last_round
        return f"no round for {age:.0f} s" if age > OVERDUE_SECONDS else self._thread.ailment()

    # -- the thread --

    def _run(self) -> None:
        pause, longest = PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                self._begin()
                while not self._stop.is_set():
                    self._round()
                    self._thread.is_well()
                    pause = PAUSE_SECONDS[0]
            except AWAY as error:
                if is_gone(error):
                    log.warning("the stream is gone, redis was flushed or came back empty; beginning anew")
                    self._forget()
                else:
                    self._app.redis.is_away(error)
            self.last_round = time.monotonic()
            self._stop.wait(pause)
            pause = min(pause * 2, longest)

    def _begin(self) -> None:
        if self._group.create():
            self._forget()
        elif self._group.rewind():
            log.warning("the group stood beyond the end of the stream; reading the stream from its beginning")
        # What was read and never seen because the answer was lost, or read in a former life.
        self._behind = "0"
        self._next_beat = 0.0

    def _round(self) -> None:
        self.last_round = time.monotonic()
        self._listen(0)
        self._hand_out()
        if self.last_round >= self._next_beat:
            self._beat()
        if self._flights.room <= 0:
            self._listen(self._backoff())
            return
        count = min(BATCH, self._flights.room)
        if self._behind is not None:
            entries = self._group.mine(self._behind, count)
            self._behind = entries[-1][0] if entries else None
            self._take([entry for entry in entries if entry[0] not in self._flights], is_again=True)
        else:
            is_soon = self._flights.is_anyone_waiting or self._app.broker.trouble is not None
            block = self._backoff() if is_soon else BLOCK_SECONDS
            self._take(self._group.unread(count, max(1, int(block * 1000))), is_again=False)
        self._app.redis.is_back()

    def _backoff(self) -> float:
        """How long to wait while somebody waits for an end: short at first, longer the longer nothing ends."""
        wait, self._wait = self._wait, min(self._wait * 1.5, WAIT_SECONDS[1])
        return wait

    def _take(self, entries: list[Entry], *, is_again: bool) -> None:
        if not entries:
            return
        self._wait = WAIT_SECONDS[0]
        unwanted = []
        for entry, fields in entries:
            if (flight := self._flights.get(entry)) is not None:
                self._flights.again(flight)
                continue
            if not fields:
                unwanted.append(entry)  # trimmed from the stream: there is nothing left to hand out
                continue
            body = fields.get(b"event")
            try:
                if body is None:
                    raise wire.MalformedEvent("the entry has no field `event`")
                event, text = wire.decode(body), body.decode()
            except Exception as error:  # a bomb of nested JSON too must not hold up those behind it
                if self._group.name == GROUP:
                    self._set_aside(entry, body or b"", str(error) or type(error).__name__)
                else:
                    unwanted.append(entry)  # one letter says it for all groups
                continue
            wanting = tuple(target for target in self._targets if target.wants(event))
            if wanting:
                self._flights.add(Flight(entry, event.id, event.eval_id, text, wanting, is_again))
            else:
                unwanted.append(entry)
        self._entries.acknowledge(unwanted)
        self._hand_out()

    def _set_aside(self, entry: str, body: bytes | str, reason: str, handler: str = "") -> None:
        if self._entries.bury(entry, handler, event=body, reason=reason):
            metrics.dead_letters.inc()
            log.error(
                "entry put with the dead letters", extra={"entry": entry, "handler": handler or None, "reason": reason}
            )

    def _hand_out(self) -> None:
        if self._flights.ready() is None or (self._own_queue and not self._app.conveyor.is_open):
            return
        with producing(self._app) as producer:
            while (flight := self._flights.ready()) is not None:
                try:
                    waiting_for = self._hand(flight, producer)
                except Unreachable:
                    return  # it stays the next; its outlet knows when to try again
                except AWAY:
                    raise  # it stays the next
                except Exception as error:  # nobody can send it: it must not hold up those behind it
                    reason = f"it cannot be handed out: {type(error).__name__}: {error}"
                    self._set_aside(flight.entry, flight.body, reason)
                    waiting_for = set()
                self.last_round = time.monotonic()  # a slow broker is not a thread stuck
                self._flights.departed(flight, waiting_for, self.last_round)
                if not waiting_for:
                    self._flights.ended(flight.entry)

    def _hand(self, flight: Flight[Target], producer: Any) -> set[str]:
        """Hand it to those who have not ended; returns whose end is to be waited for."""
        names = [target.name for target in flight.targets]
        if flight.is_again or len(names) > 1:
            names, strangers = self._entries.open(flight.entry, names)
            for stranger in strangers:
                self._set_aside(flight.entry, flight.body, "its handler is not registered any more", stranger)
        waiting_for = set()
        for target in flight.targets:
            if target.name not in names:
                continue
            try:
                task_id = target.hand(flight, producer)
            except Refused as error:
                self._set_aside(flight.entry, flight.body, str(error), target.name)
                continue
            if target.ends_with_its_task:
                self._of_task[task_id, flight.entry] = target.name
                waiting_for.add(target.name)
            else:
                self._entries.finish(flight.entry, target.name)
        return waiting_for

    def _listen(self, timeout: float) -> None:
        """Take note of tasks that ended; wait so long for the first."""
        while True:
            try:
                heard = self._heard.get(timeout=timeout) if timeout else self._heard.get_nowait()
            except queue.Empty:
                return
            timeout = 0
            self._wait = WAIT_SECONDS[0]
            of, more = heard
            if isinstance(of, frozenset):
                self._again_all_but(of, since=more)
            else:
                self._note(of, bool(more))

    def _note(self, task: Handed, lost: bool) -> None:
        target, (_, entry) = self._of_task.pop(task, ""), task
        flight = self._flights.get(entry)
        if flight is None:
            if lost:
                self._behind = "0"  # another worker handed it out, but it is ours since it began: see what that was
            return
        if lost:
            self._flights.again(flight)
        elif target in flight.left:
            flight.left.remove(target)
            if not flight.left:
                self._flights.ended(entry)

    def _again_all_but(self, running: frozenset[Handed], since: float) -> None:
        kept = {(task[1], target) for task, target in self._of_task.items() if task in running}
        lost = [
            flight
            for flight in self._flights.aloft
            if flight.departed_at <= since and any((flight.entry, target) not in kept for target in flight.left)
        ]
        for flight in lost:
            self._flights.again(flight)
        if lost:
            log.warning("tasks were lost with the broker, handing them out again", extra={"count": len(lost)})

    def _beat(self) -> None:
        """Say that what we hold is alive, see what ended elsewhere, take over what nobody keeps alive."""
        every = self._takeover / BEATS
        self._next_beat = time.monotonic() + (min(every, 0.25) if self._flights.room <= 0 else every)
        held = self._group.held(10 * BATCH + len(self._flights))
        self._group.touch(sorted(held))
        unheld = [flight.entry for flight in self._flights.aloft if flight.entry not in held]
        for entry in self._group.acknowledged(unheld) if unheld else ():
            self._flights.ended(entry)
        self._of_task = {task: target for task, target in self._of_task.items() if task[1] in self._flights}
        if self._flights.room > 0:
            stale = self._group.stale(self._takeover, min(BATCH, self._flights.room))
            if stale:
                log.info("took over what a silent worker held", extra={"count": len(stale)})
                self._take(stale, is_again=True)
        for group, lag in self._group.lags().items():
            metrics.stream_lag.labels(group).set(lag)
        self._group.forget_the_dead()
        self._announcer.announce()

    def _empty_own_queue(self) -> None:
        if self._own_queue is None:
            return
        with self._app.connection_for_write() as connection, connection.channel() as channel:
            channel.queue_purge(self._own_queue)  # type: ignore[attr-defined] # the stubs lack it

    def _forget(self) -> None:
        self._flights.clear()
        self._of_task.clear()
