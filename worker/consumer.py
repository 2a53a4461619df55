"""From the stream to its targets: one thread that reads entries, hands them out, and keeps alive what is in flight.

What it promises: an entry is handed out until it is acknowledged, whatever is lost on the way: a task, a process, the
broker's memory, this worker. Of one evaluation one entry is handed out at a time, in the order of the stream, whichever
workers do it: an entry that is retried for minutes delays those behind it for as long, and a dead letter lets them go.
What it does not promise: once only; nor order where Redis has forgotten which entry is the first.
"""

import logging
import queue
import threading
import time
from dataclasses import dataclass, field

from jobcast.event import Status
from jobcast.keys import GROUP
from jobcast.redis.connection import connect_plain, explain
from jobcast.service.availability import UNREACHABLE
from jobcast.service.threads import Supervised
from worker import metrics
from worker.context import WorkerContext
from worker.dispatcher import Dispatcher
from worker.entries import Entries
from worker.group import Group, is_gone
from worker.handler_target import Target
from worker.in_flight import InFlightEntries
from worker.outcome import Handed, entries_here
from worker.queues import own_queue
from worker.reader import BATCH, Reader

log = logging.getLogger(__name__)

LOOKED_AT = 512
"""Entries of which is asked at once whether they are the first: a few milliseconds of Redis' time."""
BLOCK_SECONDS = 1.0
"""The longest that a round waits: so late it is noticed that Redis forgot."""
FULL_SECONDS = 0.25
"""Between heartbeats while there is no room: tasks may have ended in other workers, of which only Redis knows."""
GATHER_SECONDS = 0.002
"""Between readings while there is little room: what ends meanwhile shares the cost of the next."""
CLOSED_SECONDS = 0.05
"""Until the next try, while what is ready cannot be handed out."""
PAUSE_SECONDS = (0.05, 0.25)
"""First and longest pause while Redis is unreachable: the longest is what an event may wait for us after it is up again."""
OVERDUE_SECONDS = 30.0
"""A round takes a second, or as long as Redis and the broker may take to answer nothing, 10 s; beyond, the thread is stuck."""
BEATS = 6
"""Heartbeats within TAKEOVER_SECONDS: five may be lost to a slow Redis before others take over."""


def thread_name(group: str) -> str:
    return "consumer" if group == GROUP else f"consumer {group}"


@dataclass
class _Held:
    """What is ours in Redis, as far as this worker knows."""

    unseen: list[str] = field(default_factory=list)
    """Entries that are not in flight: they wait until they are the first, or the answer that gave them was lost."""
    is_unsure: bool = False
    """Something may be ours that was not when we looked last."""
    next_beat: float = 0.0
    """By the monotonic clock."""


class StreamConsumer:
    """Start and stop it with the worker. `targets` are asked in their order. Several may run beside each other, each with
    a group of its own; at most one of them has targets that end with their tasks."""

    def __init__(self, context: WorkerContext, consumer: str, targets: list[Target], group: str = GROUP) -> None:
        settings, keys = context.settings, context.keys
        self._context = context
        client = connect_plain(settings.redis_url, prefix=settings.key_prefix)
        self._group = Group(client, keys, consumer, group)
        wanted = {status for target in targets for status in target.statuses}
        unwanted = [status.value for status in Status if status not in wanted]
        self._reader = Reader(client, keys, self._group, unwanted, BLOCK_SECONDS)
        entries = Entries(client, keys, max_age=settings.stream_max_seconds, group=group)
        self._in_flight: InFlightEntries[Target] = InFlightEntries(settings.worker_prefetch)
        self._dispatcher = Dispatcher(context, entries, self._in_flight, targets)
        self._reports: queue.SimpleQueue[tuple[Handed, bool] | tuple[frozenset[Handed], float]] = queue.SimpleQueue()
        """What other threads say of our tasks."""
        self._held = _Held()
        self._stop = threading.Event()
        self._thread = Supervised(thread_name(group), self._run, self._stop, restarted=metrics.task_restarted)
        self.last_round = time.monotonic()
        """When the thread last came round, by the monotonic clock; also while Redis is unreachable."""

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Read no more. What is in flight ends by itself."""
        self._stop.set()
        self._reader.wakeup.wake()

    def stop(self, running: frozenset[Handed]) -> None:
        """Returns when the thread has ended, or cannot be waited for any longer.

        What was handed out and is not `running` will not end here: others may take it over at once.
        """
        self.ask_to_stop()
        self._thread.join(BLOCK_SECONDS + 5)
        try:
            self._reader.wakeup.answer()  # so that it gives us nothing afterwards
            self._group.run(*self._dispatcher.finishing())
            self._group.release({entry for _, entry in running})
            self._empty_own_queue()
        except UNREACHABLE as error:
            log.warning(
                "redis or broker unreachable, unfinished events stay until others take them over",
                extra={"error": explain(error)},
            )
        self._reader.wakeup.close()
        self._group.close()

    def task_ended(self, task: Handed, is_lost: bool) -> None:
        """A task of this worker ended, or was lost. From any thread."""
        self._reports.put((task, is_lost))
        self._reader.wakeup.wake()

    def lost_all_but(self, running: frozenset[Handed]) -> None:
        """Celery begins to read, at the start or after a lost connection: of the tasks that this worker was given, only the
        running ones are left.

        Empties its queue, so that nothing is there twice. Raises what the broker raises.
        """
        self._empty_own_queue()
        self._reports.put((running, time.monotonic()))
        self._reader.wakeup.wake()

    def unhealthy_reason(self) -> str | None:
        """What is wrong with the thread, or None. An unreachable Redis is no fault of it."""
        age = time.monotonic() - self.last_round
        return f"no round for {age:.0f} s" if age > OVERDUE_SECONDS else self._thread.unhealthy_reason()

    def status(self) -> dict[str, float]:
        """For people."""
        return {
            "events_in_hand": len(self._in_flight),
            "seconds_since_last_round": round(time.monotonic() - self.last_round, 1),
        }

    # -- the thread --

    def _run(self) -> None:
        pause, longest = PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                self._begin()
                while not self._stop.is_set():
                    self._round()
                    self._thread.succeeded()
                    pause = PAUSE_SECONDS[0]
            except UNREACHABLE as error:
                self._reader.wakeup.forget()
                if is_gone(error):
                    log.warning("the stream is gone, redis was flushed or restarted empty; starting over")
                    self._forget()
                else:
                    self._context.redis.mark_down(error)
            self.last_round = time.monotonic()
            self._stop.wait(pause)
            pause = min(pause * 2, longest)

    def _begin(self) -> None:
        if self._group.create():
            self._forget()
        elif self._group.rewind():
            log.warning("the group was beyond the end of the stream; reading the stream from its beginning")
        self._reader.start_over()
        # The heartbeat finds what was read by an answer that was lost, or before a restart.
        self._held.next_beat = 0.0

    def _round(self) -> None:
        self.last_round = time.monotonic()
        self._note_reports()
        if self.last_round >= self._held.next_beat:
            self._beat()
        elif self._held.is_unsure:
            self._look_through()
        if self._held.unseen and self._in_flight.room:
            self._look_again()
        self._read()
        self._hand_out()
        self._context.redis.mark_up()
        self._wait()
        self._hand_out()

    def _wait(self) -> None:
        """Until something came, ended, or is due."""
        if self._in_flight.has_ready:
            self._take_answer(CLOSED_SECONDS)
            return
        room = self._in_flight.room
        if self._dispatcher.has_news or (room and self._held.unseen):
            return
        if room and not self._reader.ask(room):
            if self._in_flight.is_crowded:
                time.sleep(GATHER_SECONDS)
            return
        self._take_answer(min(BLOCK_SECONDS, self._held.next_beat - time.monotonic()))
        if not room:
            time.sleep(GATHER_SECONDS)

    def _read(self) -> None:
        """Report to Redis what has ended, and take what may be handed out now."""
        room = self._in_flight.room if self._reader.may_have_more else 0
        if not (room or self._dispatcher.has_news):
            return
        reading = self._reader.reading(room, self._dispatcher.moved)
        *_, reply = self._group.run(*self._dispatcher.finishing(), reading)
        ended = self._dispatcher.mark_reported()
        self._dispatcher.take(self._reader.read(reply, room), again=ended)

    def _take_answer(self, seconds: float) -> None:
        entries = self._reader.wait(seconds)
        if entries is None:
            self._held.is_unsure = True
        else:
            self._dispatcher.take(entries, again=())

    def _look_again(self) -> None:
        """Whether entries that are ours and not in flight have become the first of their evaluation.

        Where workers share a queue, some of them are ours because their tasks began here: those are not lost. They are looked
        at again when such a task ends. Tasks do not count in a group that has none: other groups get the same events.
        """
        looked_at = self._held.unseen[:LOOKED_AT]
        entries, count = self._group.next_ready(looked_at, self._in_flight.room)
        del self._held.unseen[:count]
        here = entries_here() if self._dispatcher.has_tasks else ()
        self._dispatcher.take([entry for entry in entries if entry[0] not in here], again=looked_at)

    def _hand_out(self) -> None:
        for _ in self._dispatcher.hand_out():
            self.last_round = time.monotonic()  # a slow broker is not a thread stuck

    def _note_reports(self) -> None:
        """Take note of tasks that ended."""
        while True:
            try:
                of, more = self._reports.get_nowait()
            except queue.Empty:
                return
            if isinstance(of, frozenset):
                self._again_all_but(of, since=more)
            else:
                self._note(of, bool(more))

    def _note(self, task: Handed, lost: bool) -> None:
        target, (_, entry) = self._dispatcher.of_task.pop(task, ""), task
        item = self._in_flight.get(entry)
        if item is None:
            # Another worker handed it out, but it is ours since it began; and if it has ended, the next one is.
            self._held.is_unsure = True
        elif target not in item.left:
            return  # reported twice, or of a task that was given up before
        elif lost:
            self._in_flight.resend(item, target)
        else:
            self._dispatcher.moved.add(item.eval_id)
            item.left.remove(target)
            if self._in_flight.is_over(entry):
                self._in_flight.ended(entry)

    def _again_all_but(self, running: frozenset[Handed], since: float) -> None:
        kept = {(task[1], target) for task, target in self._dispatcher.of_task.items() if task in running}
        lost = [
            (item, target)
            for item in self._in_flight.sent
            if item.sent_at <= since
            for target in item.left
            if (item.entry, target) not in kept
        ]
        for item, target in lost:
            self._in_flight.resend(item, target)
        if lost:
            log.warning("tasks were lost with the broker, sending them again", extra={"count": len(lost)})

    def _beat(self) -> None:
        """Keep alive what we hold, see what ended elsewhere, take over what no worker keeps alive."""
        takeover = self._context.settings.takeover_seconds
        every = takeover / BEATS
        self._held.next_beat = time.monotonic() + (every if self._in_flight.room else min(every, FULL_SECONDS))
        held = self._look_through()
        unheld = [item.entry for item in self._in_flight.sent if item.entry not in held]
        for entry in self._group.acknowledged(unheld) if unheld else ():
            self._in_flight.ended(entry)
        self._dispatcher.of_task = {
            task: target for task, target in self._dispatcher.of_task.items() if task[1] in self._in_flight
        }
        if self._in_flight.room and (claimed := self._group.claim(takeover, BATCH)):
            log.info("took over events of a silent worker", extra={"count": len(claimed)})
            self._held.unseen += [entry for entry in claimed if entry not in self._in_flight]
            for item in filter(None, map(self._in_flight.get, claimed)):
                self._in_flight.resend(item)
        metrics.stream_lag.set(self._group.lags())
        self._group.forget_the_dead()

    def _look_through(self) -> set[str]:
        """Keep alive what is ours, and return it. What is not in flight is looked at again."""
        self._held.is_unsure = False
        held = self._group.heartbeat()
        self._held.unseen = [entry for entry in held if entry not in self._in_flight]
        return set(held)

    def _empty_own_queue(self) -> None:
        if not self._dispatcher.has_tasks:
            return
        name = own_queue(self._context.settings.key_prefix, self._group.consumer)
        with self._context.celery.connection_for_write() as connection, connection.channel() as channel:
            channel.queue_purge(name)  # type: ignore[attr-defined] # the stubs lack it

    def _forget(self) -> None:
        self._dispatcher.forget()
        self._held.unseen.clear()
