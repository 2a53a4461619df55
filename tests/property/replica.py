"""A replica of the controller without its clock and network: the real store, sinks, reconciler and ledger over a history."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fakeredis

from controller.namespace import JobStore, PodStore
from controller.store import Store
from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger, LedgerError, Step, StepResult
from jobcast.logs.plan import LogPlan
from jobcast.logs.reader import LogReads
from jobcast.reconcile.reconciler import Options, Reconciler
from tests.property.cluster import History


class Queue:
    """What is due now, and what is due later; each key once."""

    def __init__(self) -> None:
        self.due: dict[str, None] = {}
        self.later: dict[str, None] = {}

    async def room(self, keys: int) -> None:
        """There always is: a story is published step by step."""

    def add(self, key: str) -> None:
        self.due[key] = None

    def add_after(self, key: str, seconds: float) -> None:
        self.later[key] = None

    def pass_time(self) -> None:
        self.due |= self.later
        self.later = {}


class Logs:
    """Every log is there at once."""

    @asynccontextmanager
    async def log(self, *_: Any, **__: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"2026-11-20T10:00:00.123456789Z what it said"

        yield chunks()


class LossyLedger(Ledger):
    """A ledger whose next step may be refused, or be done and its reply lost."""

    next_failure = ""

    async def step(self, step: Step) -> StepResult:
        failure, self.next_failure = self.next_failure, ""
        if failure == "refused" and step.outgoing:
            raise LedgerError("refused")
        published = await super().step(step)
        if failure == "lost":
            raise LedgerError("the reply was lost")
        return published


class Replica:
    """`seen_jobs` and `seen_pods` say how far its watches have come; they lag behind one another as they like."""

    def __init__(self, history: History, server: fakeredis.FakeServer, keys: Keys) -> None:
        self._history, self._server, self._keys = history, server, keys

    async def start(self) -> None:
        self.clock = 1000.0
        self.must_relist = False
        self.queue = Queue()
        self.store = Store()
        self.client = fakeredis.FakeAsyncRedis(server=self._server)
        self.ledger = LossyLedger(self.client, self._keys, on_data_loss=self._forget)
        await self.ledger.__aenter__()
        await self.look_at_epoch()
        self.logs = LogReads(Logs(), excerpt_bytes=256, concurrency=4, done=self.queue.add)
        self.reconciler = Reconciler(
            self.store,
            self._history,
            self.ledger,
            LogPlan(self.logs),
            Options(namespaces=("evals",), clock=lambda: self.clock),
        )
        self._pods = PodStore("evals", self.store, self.queue)  # type: ignore[arg-type]
        self._jobs = JobStore("evals", self.store, self.queue, self.reconciler)  # type: ignore[arg-type]
        await self.relist()

    async def stop(self) -> None:
        await self.logs.__aexit__()
        await self.ledger.__aexit__()
        await self.client.aclose()

    async def restart(self) -> None:
        """As after a kill: nothing of it is left but its claims."""
        await self.stop()
        await self.start()

    def _forget(self, reason: str) -> None:
        self.reconciler.forget_all_published()
        self.store.forget_ended()
        self.must_relist = True

    async def look_at_epoch(self) -> None:
        """What the ledger does each second: ask whether Redis still remembers."""
        looking = asyncio.create_task(self.ledger.watch_epoch())
        await self.ledger.is_empty()  # asked after it, so answered after it
        await asyncio.sleep(0)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    async def relist(self) -> None:
        history = self._history
        self.must_relist = False
        self._pods.begin()
        await self._pods.page(history.list_pods())
        self._pods.end(str(history.version))
        self.seen_pods = len(history.pod_changes)
        self._jobs.begin()
        await self._jobs.page(history.list_jobs())
        self._jobs.end(str(history.version))
        self.seen_jobs = len(history.job_changes)
        for uid in await self.ledger.open_uids():
            if self.store.job(uid) is None:
                self.queue.add(uid)

    def watch_jobs(self, count: int) -> None:
        for change in self._history.job_changes[self.seen_jobs : self.seen_jobs + count]:
            self._jobs.change(change)
            self.seen_jobs += 1

    def watch_pods(self, count: int) -> None:
        for change in self._history.pod_changes[self.seen_pods : self.seen_pods + count]:
            self._pods.change(change)
            self.seen_pods += 1

    def pass_time(self) -> None:
        """Long enough for whatever is waited for: a log, a Pod's last word, another's claim."""
        self.clock += 11
        self.queue.pass_time()

    async def reconcile(self, at_most: int = 1000) -> None:
        """What is due, one after the other."""
        for _ in range(at_most):
            if not self.queue.due:
                return
            uid = next(iter(self.queue.due))
            del self.queue.due[uid]
            try:
                outcome = await self.reconciler.reconcile(uid)
            except LedgerError:
                self.queue.add(uid)
                continue
            if outcome.later is not None:
                self.queue.add_after(uid, outcome.later)
            for _ in range(8):  # a log that is being read gets to its end
                await asyncio.sleep(0)

    async def catch_up(self) -> None:
        """All of the history is seen, and everything that is due is done."""
        await self.look_at_epoch()
        if self.must_relist:
            await self.relist()
        self.watch_pods(10**9)
        self.watch_jobs(10**9)
        for _ in range(6):
            await self.reconcile()
            self.pass_time()
        assert not self.queue.due, "it never comes to rest"
