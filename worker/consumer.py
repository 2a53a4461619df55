"""From the stream to Celery: one thread that reads entries, hands them out, and keeps alive what is in flight.

What it promises: an entry is handed out until it is acknowledged, whatever is lost on the way: a task, a process, the
broker's memory, this worker. Of one evaluation one entry is handed out at a time, in the order of the stream, whichever
workers do it: one that is tried again for minutes holds back those behind it for as long, and a dead letter lets them go.
What it does not promise: once only; nor order where Redis has forgotten who comes first.
"""

import logging
import queue
import threading
import time

from jobcast.event import Status
from jobcast.keys import GROUP
from jobcast.redis.connection import connect_plain, explain
from jobcast.service.availability import UNREACHABLE
from jobcast.service.threads import Supervised
from worker import metrics
from worker.context import WorkerContext
from worker.dispatcher import Dispatcher
from worker.entries import Entries
from worker.group import Group, Places, is_gone
from worker.handler_target import Target
from worker.in_flight import InFlightEntries
from worker.outcome import Handed, entries_here
from worker.queues import own_queue
from worker.scripts import run
from worker.wakeup import Wakeup

log = logging.getLogger(__name__)

BATCH = 64
"""Entries in one reading: enough to share its cost, few enough that the first does not wait for the last."""
LOOKED_AT = 512
"""Entries of which is asked at once whether it is their turn: a few milliseconds of Redis' time."""
BLOCK_SECONDS = 1.0
"""The longest that a round waits: so late it is noticed that Redis forgot."""
FULL_SECONDS = 0.25
"""Between heartbeats while there is no room: tasks may have ended in other workers, which tell Redis alone."""
GATHER_SECONDS = 0.002
"""Between readings while there is little room: what ends meanwhile shares the cost of the next."""
CLOSED_SECONDS = 0.05
"""Until it is tried again, while what is ready cannot be handed out."""
PAUSE_SECONDS = (0.05, 0.25)
"""First and longest pause while Redis is away: the longest is what an event may wait for us after Redis is back."""
OVERDUE_SECONDS = 30.0
"""A round takes a second, or as long as Redis and the broker may take to answer nothing, 10 s; this is a thread stuck."""
BEATS = 6
"""Heartbeats within TAKEOVER_SECONDS: five may be lost to a slow Redis before others take over."""


def thread_name(group: str) -> str:
    return "consumer" if group == GROUP else f"consumer {group}"


class StreamConsumer:
    """Start and stop it with the worker. `targets` are asked in their order. Several may run beside each other, each with
    a group of its own; at most one of them has targets that end with their tasks."""

    def __init__(self, context: WorkerContext, consumer: str, targets: list[Target], group: str = GROUP) -> None:
        settings, keys = context.settings, context.keys
        self._context = context
        self._client = connect_plain(settings.redis_url, prefix=settings.key_prefix)
        self._group = Group(self._client, keys, consumer, group)
        entries = Entries(self._client, keys, max_age=settings.stream_max_seconds, group=group)
        self._flights: InFlightEntries[Target] = InFlightEntries(settings.worker_prefetch)
        self._dispatcher = Dispatcher(context, entries, self._flights, targets)
        has_tasks = any(target.ends_with_its_task for target in targets)
        self._own_queue = own_queue(settings.key_prefix, consumer) if has_tasks else None
        self._takeover = settings.takeover_seconds
        self._heard: queue.SimpleQueue[tuple[Handed, bool] | tuple[frozenset[Handed], float]] = queue.SimpleQueue()
        wanted = {status for target in targets for status in target.statuses}
        self._unwanted = [status.value for status in Status if status not in wanted]
        self._arrivals = Wakeup(self._client, (keys.events, keys.replays), BLOCK_SECONDS)
        self._behind: Places | None = None
        """Nothing is unread up to here; None while there may be."""
        self._unseen: list[str] = []
        """Entries of ours that are not in flight: they wait for their turn, or nobody heard of their reading."""
        self._is_unsure = False
        """Something may be ours that was not when we looked last."""
        self._is_replays_turn = False
        self._next_beat = 0.0
        self._stop = threading.Event()
        self._thread = Supervised(thread_name(group), self._run, self._stop, restarted=metrics.task_restarted)
        self.last_round = time.monotonic()
        """When the thread last came round, by the monotonic clock; also while Redis is away."""

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Read no more. What is in flight ends by itself."""
        self._stop.set()
        self._arrivals.wake()

    def stop(self, running: frozenset[Handed]) -> None:
        """Returns when the thread has ended, or cannot be waited for any longer.

        What was handed out and is not `running` will not end here: others may take it over at once.
        """
        self.ask_to_stop()
        self._thread.join(BLOCK_SECONDS + 5)
        try:
            self._arrivals.answer()  # lest it give us something after that
            run(self._client, *self._dispatcher.finishing())
            self._group.release({entry for _, entry in running})
            self._empty_own_queue()
        except UNREACHABLE as error:
            log.warning("could not hand back what is left, others will take it over", extra={"error": explain(error)})
        self._arrivals.close()
        self._client.close()

    def task_ended(self, task: Handed, is_lost: bool) -> None:
        """A task of this worker ended, or was lost. From any thread."""
        self._heard.put((task, is_lost))
        self._arrivals.wake()

    def lost_all_but(self, running: frozenset[Handed]) -> None:
        """Celery begins to read, at first or because the broker was away: of the tasks that this worker had been given, only the
        running ones are left.

        What survived in its queue, in this life or from a former, is emptied out, so that nothing is there twice. Raises
        what the broker raises.
        """
        self._empty_own_queue()
        self._heard.put((running, time.monotonic()))
        self._arrivals.wake()

    def unhealthy_reason(self) -> str | None:
        """What is wrong with the thread, or None. Redis being away is not."""
        age = time.monotonic() - self.last_round
        return f"no round for {age:.0f} s" if age > OVERDUE_SECONDS else self._thread.unhealthy_reason()

    def status(self) -> dict[str, float]:
        """For people."""
        return {
            "events_in_hand": len(self._flights),
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
                self._arrivals.forget()
                if is_gone(error):
                    log.warning("the stream is gone, redis was flushed or came back empty; beginning anew")
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
            log.warning("the group stood beyond the end of the stream; reading the stream from its beginning")
        self._behind = None
        # The beat finds what was read and never heard of because the answer was lost, or was read in a former life.
        self._next_beat = 0.0

    def _round(self) -> None:
        self.last_round = time.monotonic()
        self._listen()
        if self.last_round >= self._next_beat:
            self._beat()
        elif self._is_unsure:
            self._look_through()
        if self._unseen and self._flights.room:
            self._look_again()
        self._read()
        self._hand_out()
        self._context.redis.mark_up()
        self._wait()
        self._hand_out()

    def _wait(self) -> None:
        """Until something came, ended, or is due."""
        if self._flights.has_ready:
            self._hear_within(CLOSED_SECONDS)
            return
        room = self._flights.room
        if self._dispatcher.has_news or (room and self._unseen):
            return
        if room and not self._arrivals.is_asked:
            if self._behind is None:
                if self._flights.is_crowded:
                    time.sleep(GATHER_SECONDS)
                return
            self._arrivals.ask(self._behind, self._group.reading(min(BATCH, room), unwanted=self._unwanted))
        self._hear_within(min(BLOCK_SECONDS, self._next_beat - time.monotonic()))
        if not room:
            time.sleep(GATHER_SECONDS)

    def _read(self) -> None:
        """Tell Redis what has ended, and hear what may be handed out now."""
        is_more_to_come = self._behind is None and not self._arrivals.is_asked
        count = min(BATCH, self._flights.room) if is_more_to_come else 0
        if not (count or self._dispatcher.has_news):
            return
        self._is_replays_turn = not self._is_replays_turn
        reading = self._group.reading(
            count, self._dispatcher.moved, self._unwanted, is_replays_turn=self._is_replays_turn
        )
        *_, reply = run(self._client, *self._dispatcher.finishing(), reading)
        ended = self._dispatcher.told()
        found = self._group.read(reply)
        if count:
            self._behind = found.behind
        self._dispatcher.take(found.entries, again=ended)

    def _hear_within(self, seconds: float) -> None:
        was_asked = self._arrivals.is_asked
        answer = self._arrivals.wait(seconds)
        if answer is not None:
            found = self._group.read(answer)
            self._behind = found.behind
            self._dispatcher.take(found.entries, again=())
        elif was_asked and not self._arrivals.is_asked:
            # It was lost with its connection: what it gave us is ours all the same.
            self._behind = None
            self._is_unsure = True

    def _look_again(self) -> None:
        """Whether the turn of entries has come that are ours and not in flight.

        Where workers share a queue, some of them are ours because their tasks began here: those are not lost. They are looked
        at again when such a task ends. A task says nothing of a group that has none: other groups get the same events.
        """
        looked_at = self._unseen[:LOOKED_AT]
        entries, count = self._group.turns(looked_at, self._flights.room)
        del self._unseen[:count]
        here = entries_here() if self._own_queue is not None else ()
        self._dispatcher.take([entry for entry in entries if entry[0] not in here], again=looked_at)

    def _hand_out(self) -> None:
        for _ in self._dispatcher.hand_out():
            self.last_round = time.monotonic()  # a slow broker is not a thread stuck

    def _listen(self) -> None:
        """Take note of tasks that ended."""
        while True:
            try:
                of, more = self._heard.get_nowait()
            except queue.Empty:
                return
            if isinstance(of, frozenset):
                self._again_all_but(of, since=more)
            else:
                self._note(of, bool(more))

    def _note(self, task: Handed, lost: bool) -> None:
        target, (_, entry) = self._dispatcher.of_task.pop(task, ""), task
        flight = self._flights.get(entry)
        if flight is None:
            # Another worker handed it out, but it is ours since it began; and if it has ended, the next one is.
            self._is_unsure = True
        elif target not in flight.left:
            return  # said twice, or of a task that was given up before
        elif lost:
            self._flights.again(flight, target)
        else:
            self._dispatcher.moved.add(flight.eval_id)
            flight.left.remove(target)
            if self._flights.is_over(entry):
                self._flights.ended(entry)

    def _again_all_but(self, running: frozenset[Handed], since: float) -> None:
        kept = {(task[1], target) for task, target in self._dispatcher.of_task.items() if task in running}
        lost = [
            (flight, target)
            for flight in self._flights.aloft
            if flight.departed_at <= since
            for target in flight.left
            if (flight.entry, target) not in kept
        ]
        for flight, target in lost:
            self._flights.again(flight, target)
        if lost:
            log.warning("tasks were lost with the broker, handing them out again", extra={"count": len(lost)})

    def _beat(self) -> None:
        """Say that what we hold is alive, see what ended elsewhere, take over what nobody keeps alive."""
        every = self._takeover / BEATS
        self._next_beat = time.monotonic() + (every if self._flights.room else min(every, FULL_SECONDS))
        held = self._look_through()
        unheld = [flight.entry for flight in self._flights.aloft if flight.entry not in held]
        for entry in self._group.acknowledged(unheld) if unheld else ():
            self._flights.ended(entry)
        self._dispatcher.of_task = {
            task: target for task, target in self._dispatcher.of_task.items() if task[1] in self._flights
        }
        if self._flights.room and (stale := self._group.stale(self._takeover, BATCH)):
            log.info("took over what a silent worker held", extra={"count": len(stale)})
            self._unseen += [entry for entry in stale if entry not in self._flights]
            for flight in filter(None, map(self._flights.get, stale)):
                self._flights.again(flight)
        metrics.stream_lag.set(self._group.lags())
        self._group.forget_the_dead()

    def _look_through(self) -> set[str]:
        """Keep alive what is ours, and return it. What is not in flight is looked at again."""
        self._is_unsure = False
        held = self._group.hold()
        self._unseen = [entry for entry in held if entry not in self._flights]
        return set(held)

    def _empty_own_queue(self) -> None:
        if self._own_queue is None:
            return
        with self._context.celery.connection_for_write() as connection, connection.channel() as channel:
            channel.queue_purge(self._own_queue)  # type: ignore[attr-defined] # the stubs lack it

    def _forget(self) -> None:
        self._dispatcher.forget()
        self._unseen.clear()
