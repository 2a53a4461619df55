"""Starts the parts in order and stops them in reverse, inside one grace period.

start   probes → Redis → cluster → reflectors → reconcile workers
stop    reflectors (nothing new) → workers (what is in hand is finished) → claims given back → Redis → probes
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from functools import partial
from typing import Any

import structlog

from controller import memory, metrics
from controller.finalizers import Finalizers
from controller.health import Health
from controller.hearing import Hearing
from controller.scope import Scope
from controller.settings import ControllerSettings
from controller.store import Store
from controller.supervisor import Supervisor
from controller.workqueue import Workqueue
from jobcast.connection import connect, masked
from jobcast.event import Event, Log, Status
from jobcast.keys import Keys
from jobcast.kube import Access, Api, KubeError
from jobcast.ledger import CLAIM_SECONDS, Ledger
from jobcast.link import LedgerError
from jobcast.readings import open_reads
from jobcast.reconcile import Reconciler
from jobcast.settings import reading_of, watched_namespaces

log = structlog.get_logger()

WORKERS = 128
"""Reconciles at the same time: their steps share round trips. More of them made the start no faster, and cost memory."""
STUCK_SECONDS = 30.0
"""A loop that has not turned for so long hangs in something that a restart ends."""
BURST = 2_000
"""Reconciles within a pulse that leave memory worth giving back."""
KEEP_SECONDS = 3600.0
"""How often the rows of ended Jobs that still exist are kept from expiring; retention is a minute at least, a week as a
rule."""


class Controller:
    """All parts of one replica. `run` returns when `stop` was called and everything has ended."""

    def __init__(self, settings: ControllerSettings, access: Access) -> None:
        self._settings = settings
        self._access = access
        self._stopping = asyncio.Event()
        self._supervisor = Supervisor()
        self._queue = Workqueue()
        self._store = Store()
        self._scopes: list[Scope] = []
        self._ledger: Ledger | None = None
        self._reconciler: Reconciler | None = None
        self._turned = time.monotonic()
        self._hearing: Hearing | None = None
        self.health: Health | None = None

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        settings, keys = self._settings, Keys(self._settings.key_prefix)
        async with contextlib.AsyncExitStack() as stack:
            self.health = await stack.enter_async_context(
                Health(settings.http_host, settings.http_port, alive=self.alive, ready=self.ready, status=self.status)
            )
            client = connect(settings.redis_url)
            stack.push_async_callback(client.aclose)
            ledger = self._ledger = await stack.enter_async_context(
                Ledger(
                    client,
                    keys,
                    identity=identity(),
                    retention=settings.retention_seconds,
                    stream_length=settings.stream_max_length,
                    forgot=self._redis_forgot,
                    trouble=self._redis_trouble,
                )
            )
            api = await stack.enter_async_context(
                Api(self._access, reading_of(settings), skip=lambda reason: metrics.skipped.labels(reason).inc())
            )
            logs = await open_reads(stack, settings, api, ledger, done=self._queue.add, seen=_count_log)
            watched = watched_namespaces(settings, self._access.namespace)
            finalizers = Finalizers(
                api,
                self._store,
                self._queue,
                self._scopes,
                longest=settings.finalizer_max_seconds,
                trouble=lambda: ledger.trouble if ledger.is_away else None,
            )
            reconciler = self._reconciler = Reconciler(
                self._store,
                finalizers,
                ledger,
                logs,
                namespaces=watched,
                log_wait=settings.log_wait_seconds,
                all_logs=settings.log_containers == "all",
                holds=settings.finalizer,
                refused=finalizers.cannot_hold,
                answered=lambda answer: metrics.answers_by_answer[answer].inc(),
            )
            for namespace in watched or (None,):
                self._scopes.append(
                    Scope(
                        api,
                        namespace,
                        settings.label_selector,
                        self._store,
                        self._queue,
                        reconciler,
                        lambda reason: metrics.watch_restarts.labels(reason).inc(),
                        holds=settings.finalizer,
                    )
                )
            log.info(
                "controller started",
                namespaces=list(watched or "*"),
                selector=settings.label_selector,
                cluster=self._access.host,
                redis=masked(settings.redis_url),
                http=self.health.port,
            )
            self._hearing = Hearing(self._reflectors, api.version)
            await self._work(reconciler, ledger, finalizers, self._hearing)
        log.info("controller stopped")

    async def _work(self, reconciler: Reconciler, ledger: Ledger, finalizers: Finalizers, hearing: Hearing) -> None:
        workers = Supervisor()
        for number in range(WORKERS):
            workers.start(f"reconcile {number}", self._reconcile_forever)
        for scope in self._scopes:
            where = scope.jobs.namespace or "*"
            self._supervisor.start(f"pods {where}", scope.pods.run)
            self._supervisor.start(f"jobs {where}", scope.jobs.run)
            self._supervisor.start(f"open {where}", partial(self._look_for_vanished, scope))
        self._supervisor.start("redis", ledger.watch_epoch)
        self._supervisor.start("claims", lambda: self._renew_claims(reconciler))
        self._supervisor.start("finalizers", finalizers.run)
        self._supervisor.start("keep", lambda: self._keep_rows(reconciler, ledger))
        self._supervisor.start("hearing", hearing.run)
        self._supervisor.start("pulse", self._pulse)
        await self._stopping.wait()
        log.info("controller stopping")
        await self._supervisor.stop()
        # What is in hand is finished, within the grace period; a Redis that is away is not waited for longer.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._settings.grace_seconds - 1)):
                while not self._queue.is_idle:
                    await asyncio.sleep(0.01)
        self._queue.close()
        await workers.stop()
        with contextlib.suppress(TimeoutError, LedgerError):
            async with asyncio.timeout(1):
                await reconciler.release_claims()

    async def _reconcile_forever(self) -> None:
        reconciler, queue = self._reconciler, self._queue
        assert reconciler is not None, "workers start after it is made"
        loop = asyncio.get_running_loop()
        while True:
            uid, added = await queue.get()
            started = loop.time()
            try:
                outcome = await reconciler.reconcile(uid)
            except (KubeError, LedgerError) as error:
                queue.retry(uid)
                self._failed(uid, error, type(error).__name__)
            except Exception as error:
                # Our own mistake, or a Job like no other: it must not take the others' workers with it.
                queue.retry(uid)
                log.exception("reconcile failed", uid=uid)
                self._failed(uid, error, "unexpected")
            else:
                queue.forget(uid)
                if outcome.later is not None:
                    queue.add_after(uid, outcome.later)
                if outcome.told:
                    metrics.latency.observe(loop.time() - added)
                    for event in outcome.told:
                        _note(event)
            finally:
                metrics.reconcile.observe(loop.time() - started)
                queue.done(uid)

    def _failed(self, uid: str, error: Exception, kind: str) -> None:
        metrics.errors.labels(kind.lower()).inc()
        job = self._store.job(uid)
        log.warning(
            "reconcile is tried again", uid=uid, job=f"{job.namespace}/{job.name}" if job else None, why=str(error)
        )

    async def _look_for_vanished(self, scope: Scope) -> None:
        """After each list: the Jobs that the ledger holds open and that are not in it went while nobody looked."""
        assert self._ledger is not None, "started after it is made"
        while True:
            await scope.synced()
            looked = scope.jobs.lists
            for uid in await self._ledger.open_uids():
                if self._store.job(uid) is None:
                    self._queue.add(uid)
            while scope.jobs.lists == looked:
                await asyncio.sleep(0.2)

    async def _renew_claims(self, reconciler: Reconciler) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 3)
            await reconciler.renew_claims()

    async def _keep_rows(self, reconciler: Reconciler, ledger: Ledger) -> None:
        while True:
            await asyncio.sleep(min(KEEP_SECONDS, self._settings.retention_seconds / 3))
            await ledger.keep(list(reconciler.ended()))
            await ledger.trim(self._settings.stream_max_seconds)

    async def _pulse(self) -> None:
        """Notice a stuck loop, and bring the gauges up to date."""
        worked = 0
        while True:
            self._turned = time.monotonic()
            # After a burst, as of a first list, and once: trimming takes a few milliseconds.
            if self._queue.taken - worked > BURST and self._queue.is_idle:
                memory.give_back()
            if self._queue.is_idle:
                worked = self._queue.taken
            if all(scope.is_synced for scope in self._scopes):
                self._store.trim_orphans()
            metrics.queue_depth.set(len(self._queue))
            for reflector in self._reflectors():
                age = time.monotonic() - reflector.last_byte
                metrics.watch_age.labels(reflector.resource.name, reflector.namespace or "*").set(age)
            counts = {"pending": 0, "running": 0, "suspended": 0, "ended": self._store.ended_count}
            for job in self._store.jobs():
                counts["suspended" if job.suspended else "running" if job.ready else "pending"] += 1
            for status, count in counts.items():
                metrics.jobs.labels(status).set(count)
            await asyncio.sleep(1)

    def _reflectors(self) -> list[Any]:
        return [reflector for scope in self._scopes for reflector in (scope.pods, scope.jobs)]

    def _redis_forgot(self, reason: str) -> None:
        """Everything the API server shows is looked at again; rows that survived make that silent."""
        if self._reconciler is None or not self._scopes:
            return
        log.warning("redis may have forgotten, listing again", reason=reason)
        self._reconciler.forget_all()
        self._store.forget_ended()
        for scope in self._scopes:
            scope.relist()

    def _redis_trouble(self, trouble: str | None) -> None:
        metrics.redis_up.set(trouble is None)
        if trouble is None:
            log.info("redis answers", redis=masked(self._settings.redis_url))
        else:
            log.warning("redis does not answer", redis=masked(self._settings.redis_url), why=trouble)

    def alive(self) -> str | None:
        stuck = time.monotonic() - self._turned
        if stuck > STUCK_SECONDS:
            return f"the event loop has not turned for {stuck:.0f} s"
        return self._supervisor.hopeless() or (self._hearing.ailment() if self._hearing else None)

    def ready(self) -> str | None:
        if self._stopping.is_set():
            return "stopping"
        if self._ledger is None or self._ledger.trouble is not None:
            return f"redis: {self._ledger.trouble if self._ledger else 'not connected yet'}"
        for reflector in self._reflectors():
            if reflector.trouble is not None or not reflector.synced.is_set():
                where = reflector.namespace or "*"
                return f"{reflector.resource.name} in {where}: {reflector.trouble or 'not listed yet'}"
        return None if self._scopes else "not started yet"

    def status(self) -> dict[str, Any]:
        return {
            "ready": self.ready() or "yes",
            "alive": self.alive() or "yes",
            "redis": {
                "url": masked(self._settings.redis_url),
                "trouble": self._ledger.trouble if self._ledger else None,
                "epoch": self._ledger.epoch if self._ledger else None,
            },
            "cluster": self._access.host,
            "watches": [
                {
                    "resource": reflector.resource.name,
                    "namespace": reflector.namespace or "*",
                    "trouble": reflector.trouble,
                    "seconds_since_last_byte": round(time.monotonic() - reflector.last_byte, 1),
                }
                for reflector in self._reflectors()
            ],
            "jobs": {"open": len(self._store), "ended": self._store.ended_count},
            "queue": len(self._queue),
        }


def identity() -> str:
    """Who we are in claims. Two containers on one host network have the same name and, both, pid 1: hence the rest."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def _count_log(read: Log) -> None:
    metrics.log_reads.labels(read.state).inc()
    metrics.log_bytes.inc(read.bytes)


def _note(event: Event) -> None:
    metrics.events_by_status[event.status].inc()
    if event.warnings and event.status.is_terminal:  # once a Job
        metrics.warnings.inc()
        log.warning(
            "the Job is not as it says", job=f"{event.job.namespace}/{event.job.name}", warnings=list(event.warnings)
        )
    fields: dict[str, Any] = {}
    if event.status in (Status.COMPLETED, Status.FAILED):
        fields = {"exit_code": getattr(event, "exit_code", None), "reason": getattr(event, "reason", None)}
    log.info(
        "told",
        status=event.status.value,
        job=f"{event.job.namespace}/{event.job.name}",
        uid=event.job.uid,
        eval_id=event.eval_id,
        **fields,
    )
