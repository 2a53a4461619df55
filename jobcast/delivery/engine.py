"""The loop of one process and one group: tell what has ended, read what is new, take what is due, begin its runs.

Everything that this loop asks of Redis may be asked again. When Redis is unreachable, the same ends and the same request are sent
once more, and runs go on meanwhile.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jobcast import wire
from jobcast.backoff import pause
from jobcast.delivery.arrivals import Arrivals
from jobcast.delivery.runs import Runs
from jobcast.delivery.scripts import Call
from jobcast.delivery.store import Answer, Begun, End, Identity, Opening, Store, Taken
from jobcast.delivery.target import Delivery, Place, Target
from jobcast.event import Event, Status
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.redis.pipeline import Pipeline
from jobcast.service.supervisor import Supervisor

if TYPE_CHECKING:
    import redis.asyncio

log = logging.getLogger(__name__)
SENDING_PLACES = 16
"""Messages that a process sends at the same time, beside its slots."""
HELD_BYTES = 64 * 1024 * 1024
"""Of events that run here: more are not taken, unless nothing runs."""
BEATS = 6
"""Heartbeats within a lease: five may be lost to a slow Redis before another process takes over."""
BEAT_AT_ONCE = 200
PAUSE_SECONDS = (0.05, 0.25)
"""First and longest pause while Redis is unreachable."""
IDLE_SECONDS = 5.0
"""The longest between two looks, whatever was missed."""
REPAIR_SECONDS = 3600.0


class Options(NamedTuple):
    slots: int = 8
    """Runs at the same time in this process."""
    lease: float = 60.0
    """Seconds without a beat after which another process takes over."""
    max_age: float = 604_800.0
    """Seconds. An entry, and a dead letter, is kept no longer."""


class Hooks(NamedTuple):
    """What an engine tells its process; each is called in the engine's loop."""

    buried: Callable[[str, str, str], None] = lambda entry, target, reason: None
    """A dead letter was written."""
    reachable: Callable[[Exception | None], None] = lambda error: None
    """Redis answered, or did not."""
    is_elsewhere: Callable[[str], bool] = lambda target: False
    """Whether another group serves the target of this name: a replay for it is none of ours."""


DEFAULT_OPTIONS = Options()
NO_HOOKS = Hooks()


class Offer(NamedTuple):
    """A broker's message that wants to begin its run here."""

    entry: str
    target: Target
    """What runs it in this process."""
    answered: Callable[[bool], object]
    """Called in the engine's loop: whether it began. If not, it has ended, or another process runs it."""
    token: str


class Engine:
    """Run it with `run`, end it with `drain` or `stop`. One in each process and group; `client` must not decode replies."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        keys: Keys,
        group: str,
        targets: Sequence[Target],
        options: Options = DEFAULT_OPTIONS,
        hooks: Hooks = NO_HOOKS,
        pipeline: Callable[["redis.asyncio.Redis"], Pipeline] = Pipeline,
    ) -> None:
        # Of this process' life, never used again.
        name = secrets.token_hex(6)
        self._targets = {target.name: target for target in targets}
        self._options = options
        self.slots = options.slots
        """May be changed at any time."""
        self._hooks = hooks
        has_sends = any(target.place is Place.ELSEWHERE for target in targets)
        lease, max_age = options.lease, options.max_age
        self._pipelines = pipeline(client), pipeline(client)
        self._store, self._beats = (
            Store(one, keys, group, name, lease=lease, max_age=max_age, has_sends=has_sends) for one in self._pipelines
        )
        self._arrivals = Arrivals(client, self._store, name)
        self._runs = Runs(self._arrivals.wake.set, self._bury)
        self._state = _Progress()

    @property
    def last_round(self) -> float:
        """When the loop last came round, by the monotonic clock; also while Redis is unreachable."""
        return self._state.last_round

    @property
    def runs(self) -> Runs:
        """What runs in this process now."""
        return self._runs

    async def run(self) -> None:
        """Until `stop`, or until it is drained. Raises ValueError where the group has data of another version."""
        side = {"arrivals": self._arrivals.watch, "wakes": self._arrivals.listen, "heartbeat": self._keep_alive}
        try:
            async with Supervisor().running(side):
                await self._until_stopped()
        finally:
            await self._finish()

    async def _until_stopped(self) -> None:
        failures = 0
        while not self._state.is_over(self._runs):
            try:
                await self._rounds()
            except ERRORS as error:
                failures += 1
                self._hooks.reachable(error)
                self._state.has_begun = False
                self._state.last_round = time.monotonic()
                await asyncio.sleep(pause(failures, PAUSE_SECONDS))
            else:
                failures = 0

    def drain(self) -> None:
        """Take no more. `run` returns when what runs here has ended, or after `stop`."""
        self._state.is_draining = True
        self._arrivals.wake.set()

    def stop(self) -> None:
        """Take no more. `run` cancels what still runs, gives it back, and returns."""
        self._state.is_stopping = True
        self._arrivals.wake.set()

    def offer(self, entry: str, target: Target, answered: Callable[[bool], object]) -> None:
        """A broker's message wants its run here: it begins when there is a slot, before anything else does.

        A process that drains begins nothing, and answers nothing: the broker hands its message out again."""
        self._state.offers.append(Offer(entry, target, answered, secrets.token_hex(12)))
        self._arrivals.wake.set()

    # -- the loop --

    async def _rounds(self) -> None:
        if not self._state.has_begun:
            await self._store.begin_group()
            self._state.has_begun = True
        while not self._state.is_over(self._runs):
            self._state.last_round = time.monotonic()
            self._arrivals.wake.clear()
            answer = await self._round()
            self._hooks.reachable(None)
            if answer is None or not (answer.taken or self._runs.has_ends or self._state.may_have_more):
                await self._wait(answer)

    async def _round(self) -> Answer | None:
        """One round trip: what has ended, what was offered, what is new, what is due."""
        await self._open()
        state, ends = self._state, self._runs.ends()
        slots, sends = self._room()
        offers = [state.offers[i] for i in range(min(slots, len(state.offers)))]
        slots -= len(offers)
        ending = self._store.ending(ends)
        calls = ending + [self._store.beginning(offer.entry, offer.target.name, offer.token) for offer in offers]
        is_taking = slots + sends > 0
        is_routing = self._arrivals.may_route and is_taking
        if is_routing:
            calls.append(self._store.routing(self._unwanted))
        if is_taking:
            calls.append(self._taking(slots, sends, is_idle=not offers and not self._runs.count(Place.HERE)))
        if not calls:
            return None
        replies = await self._store.run(*calls)
        self._runs.mark_told(ends)
        for offer, reply in zip(offers, replies[len(ending) :], strict=False):
            state.offers.popleft()
            self._answer(offer, reply)
        state.may_have_more = False
        if is_routing:
            routed = self._store.routed(replies[-2])
            self._arrivals.may_route = state.may_have_more = routed.has_more
        if not is_taking:
            return None
        answer = self._store.answer(replies[-1])
        self._take(answer.taken, state.request)
        state.request = secrets.token_hex(8)
        await self._open()
        await self._note_server(answer.run_id)
        return answer

    def _room(self) -> tuple[int, int]:
        """Free slots, and free places for sending."""
        if self._state.is_draining:
            return 0, 0
        slots = max(0, self.slots - self._runs.count(Place.HERE))
        return slots, SENDING_PLACES - self._runs.count(Place.ELSEWHERE) if self._store.has_sends else 0

    def _taking(self, slots: int, sends: int, *, is_idle: bool) -> Call:
        free_bytes = HELD_BYTES - self._runs.held_bytes
        return self._store.taking(self._state.request, slots, sends, free_bytes, self._rates, is_idle=is_idle)

    def _answer(self, offer: Offer, reply: Any) -> None:
        taken = self._store.began(offer.entry, offer.target.name, offer.token, reply)
        if taken is not None:
            for run in taken.begun or ():
                self._start(taken, run, offer.target, wire.decode(taken.body))
        offer.answered(taken is not None)

    async def _wait(self, answer: Answer | None) -> None:
        """Until something came, ended, or is due."""
        # A script that runs shows the others that Redis was there: after a long silence no lease ends (common.lua).
        seconds = min(IDLE_SECONDS, self._options.lease / BEATS)
        if answer is not None and answer.due_in is not None:
            seconds = min(seconds, answer.due_in + 0.001)
        if time.monotonic() >= self._state.next_repair:
            await self._repair()
        try:
            async with asyncio.timeout(seconds):
                await self._arrivals.wake.wait()
        except TimeoutError:
            self._arrivals.may_route = True

    def _take(self, taken: list[Taken], reader: str) -> None:
        """Begin what is open already, and note what is to be opened."""
        for one in taken:
            if one.fields is None:
                log.error("entry was trimmed from the stream before it was handled", extra={"entry": one.entry})
            elif one.begun is None:
                self._read(one, reader)
            else:
                self._begin(one, None, one.begun)

    def _read(self, one: Taken, reader: str) -> None:
        fields = one.fields or {}
        body = fields.get(b"event")
        only = fields.get(b"handler", b"").decode(errors="replace")
        try:
            if body is None:
                raise wire.MalformedEvent("the entry has no field `event`")
            event = wire.decode(body)
            if only and only not in self._targets and not self._hooks.is_elsewhere(only):
                raise wire.MalformedEvent(f"no handler or route has the name {only}")
        except Exception as error:  # even deeply nested JSON must not hold up those behind it
            reason = str(error) or type(error).__name__
            self._bury(one.entry, "", reason)
            self._runs.tell(End(Identity(one.entry, one.key, "", reader), "dead", 0, reason))
            return
        wanting = [target for target in self._targets.values() if only in ("", target.name) and target.wants(event)]
        self._state.unopened.append(_Unopened(one, event, reader, wanting))

    async def _open(self) -> None:
        """Fix the targets of what was read, and begin them as far as there are slots. What fails is opened in the next round."""
        if not self._state.unopened:
            return
        unopened, openings = list(self._state.unopened), []
        slots, _ = self._room()
        for one in unopened:
            here = min(slots, sum(target.place is Place.HERE for target in one.targets))
            openings.append(Opening(one.taken.entry, one.taken.key, one.reader, here, one.targets))
            slots -= here
        (reply,) = await self._store.run(self._store.opening(openings))
        del self._state.unopened[: len(unopened)]
        for one, begun in zip(unopened, self._store.opened(reply), strict=True):
            self._begin(one.taken, one.event, begun)

    def _begin(self, one: Taken, event: Event | None, begun: list[Begun]) -> None:
        for run in begun:
            target = self._targets.get(run.target)
            if target is None:
                reason = "its handler is not registered any more"
                self._bury(one.entry, run.target, reason)
                identity = Identity(one.entry, one.key, run.target, run.token)
                self._runs.tell(End(identity, "dead", run.tries, reason))
                continue
            event = event or wire.decode(one.body)
            self._start(one, run, target, event)

    def _start(self, one: Taken, run: Begun, target: Target, event: Event) -> None:
        delivery = Delivery(one.entry, one.key, run.target, run.token, run.tries, run.lost, one.body, event)
        self._runs.begin(delivery, target)

    async def _note_server(self, run_id: str) -> None:
        """Another server, or the same one restarted, may have forgotten what it acknowledged."""
        state = self._state
        if state.run_id not in ("", run_id):
            log.warning("redis is another server, or restarted; repeating the recent ends")
            await self._store.end(self._runs.recent())
            state.next_repair = 0.0
        state.run_id = run_id

    async def _repair(self) -> None:
        self._state.next_repair = time.monotonic() + REPAIR_SECONDS
        repaired = 0
        for stream in "ers":
            after = "0-0"
            while after:
                after, count = await self._store.repair(stream, after)
                repaired += count
        cursor = "0"
        while True:
            cursor, count = await self._store.repair_queue(cursor)
            repaired += count
            if cursor == "0":
                break
        if repaired:
            log.warning("queues did not match what is pending, repaired", extra={"count": repaired})

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._options.lease / BEATS)
            try:
                await self._beat()
            except ERRORS as error:
                log.debug("heartbeat failed", extra={"error": str(error)})

    async def _beat(self) -> None:
        alive = [run.identity for run in self._runs if run.target.place is Place.HERE]
        for start in range(0, len(alive), BEAT_AT_ONCE):
            (refused,) = await self._beats.run(self._beats.beating(alive[start : start + BEAT_AT_ONCE]))
            for token in refused:
                self._runs.refuse(token.decode())

    async def _finish(self) -> None:
        await self._runs.stop()
        try:
            await self._store.end(self._runs.ends())
        except ERRORS as error:
            log.warning("redis unreachable, unfinished events wait for their lease", extra={"error": str(error)})
        for pipeline in self._pipelines:
            await pipeline.close()

    def _bury(self, entry: str, target: str, reason: str) -> None:
        log.error(
            "entry moved to the dead letters", extra={"entry": entry, "handler": target or None, "reason": reason}
        )
        self._hooks.buried(entry, target, reason)

    @property
    def _unwanted(self) -> list[str]:
        wanted = {status for target in self._targets.values() for status in target.statuses}
        return [status.value for status in Status if status not in wanted]

    @property
    def _rates(self) -> dict[str, float]:
        return {target.name: target.rate for target in self._targets.values() if target.rate}


class _Progress:
    """Of the loop."""

    def __init__(self) -> None:
        self.has_begun = False
        self.last_round = time.monotonic()
        self.request = secrets.token_hex(8)
        """The same until it is answered."""
        self.may_have_more = False
        self.next_repair = 0.0
        self.run_id = ""
        self.is_draining = False
        self.is_stopping = False
        self.unopened: list[_Unopened] = []
        """Read, and not yet opened."""
        self.offers: deque[Offer] = deque()
        """Not yet answered."""

    def is_over(self, runs: Runs) -> bool:
        """Whether the loop ends. What was read and is not opened is taken by another process after its lease."""
        return self.is_stopping or (self.is_draining and not runs and not runs.has_ends)


class _Unopened(NamedTuple):
    """An entry that this process has read."""

    taken: Taken
    event: Event
    reader: str
    """The request that it was taken with."""
    targets: list[Target]
