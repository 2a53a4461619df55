"""One replica: its parts, in the order in which they start. They stop in reverse, inside one grace period.

probes        `/livez` answers from the first moment
redis         every command of whoever comes after it
cluster       every request
logs          reads under way end with it, and are read by another replica
claims        renewed while their logs are read; given back at once
workers       what is in hand is finished
reflectors    nothing new comes in any more
upkeep        what is done now and then
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator
from functools import partial

import structlog

from controller import metrics
from controller.finalizers import Finalizers
from controller.housekeeping import Housekeeping
from controller.liveness import Liveness
from controller.namespace import NamespaceWatch
from controller.neighbourhood import Neighbourhood, ourselves
from controller.readiness import Readiness
from controller.rights import Rights
from controller.selection import Selection
from controller.settings import ControllerSettings
from controller.store import Store
from controller.workers import Workers, note
from controller.workqueue import Workqueue
from jobcast.keys import Keys
from jobcast.kube import Access, Api
from jobcast.ledger.ledger import CLAIM_SECONDS, Ledger
from jobcast.ledger.trimming import Trimming
from jobcast.logs.plan import LogPlan, open_reads
from jobcast.logs.reader import LogReads
from jobcast.reconcile.reconciler import Hooks, Options, Reconciler
from jobcast.redis.batcher import LedgerError
from jobcast.redis.connection import connect, masked
from jobcast.service.http import ProbeServer
from jobcast.service.lifecycle import Component, Grace, running
from jobcast.service.settings import reading_of, watched_namespaces
from jobcast.service.supervisor import Supervisor

log = structlog.get_logger()

SPARE_SECONDS = 1.0
"""Of the grace period, for what stops after the workers: claims are given back, connections closed."""
KEEP_SECONDS = 3600.0
"""How often the rows of ended Jobs that still exist are kept from expiring; retention is a minute at least, a week as a
rule."""
TRIM_SECONDS = 30.0
"""How often the stream is trimmed: at 200 events a second it grows by 6,000 in between, and the asking costs Redis less than
a millisecond."""


class Controller:
    """`run` returns when `stop` was called and everything has ended."""

    _ledger: Ledger
    _api: Api
    _logs: LogReads
    _reconciler: Reconciler

    def __init__(self, settings: ControllerSettings, access: Access) -> None:
        self._settings = settings
        self._access = access
        self._stopping = asyncio.Event()
        self._grace = Grace(settings.grace_seconds)
        self._supervisor = Supervisor(restarted=lambda task: metrics.task_restarts.labels(task).inc())
        self._queue = Workqueue()
        self._store = Store()
        self._scopes: list[NamespaceWatch] = []
        self._said: set[str] = set()
        """What was wrong with Redis since it answered last: each is published once, for they may take turns."""
        self._report = Readiness(
            stopping=self._stopping,
            supervisor=self._supervisor,
            scopes=self._scopes,
            store=self._store,
            queue=self._queue,
            redis_url=settings.redis_url,
            cluster=access.host,
        )
        self.health: ProbeServer | None = None
        self.parts = (
            Component("probes", self._probes),
            Component("redis", self._redis),
            Component("cluster", self._cluster),
            Component("logs", self._log_reads),
            Component("claims", self._claims),
            Component("workers", self._workers),
            Component("reflectors", self._reflectors),
            Component("upkeep", self._upkeep),
        )

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Raises NoCluster and PortTaken."""
        async with running(self.parts, self._grace):
            log.info(
                "controller started",
                namespaces=list(watched_namespaces(self._settings, self._access.namespace) or "*"),
                selector=self._settings.label_selector,
                cluster=self._access.host,
                redis=masked(self._settings.redis_url),
                http=self.health.port if self.health else None,
            )
            await self._stopping.wait()
            log.info("controller stopping")
            self._grace.begin()
        log.info("controller stopped")

    @contextlib.asynccontextmanager
    async def _probes(self) -> AsyncIterator[None]:
        settings, report = self._settings, self._report
        async with ProbeServer(
            settings.http_host,
            settings.http_port,
            alive=report.alive,
            ready=report.ready,
            warnings=report.warnings,
            status=report.status,
            registry=metrics.registry,
        ) as self.health:
            yield

    @contextlib.asynccontextmanager
    async def _redis(self) -> AsyncIterator[None]:
        settings = self._settings
        async with (
            contextlib.aclosing(connect(settings.redis_url, prefix=settings.key_prefix)) as client,
            Ledger(
                client,
                Keys(settings.key_prefix),
                identity=identity(),
                retention=settings.retention_seconds,
                on_data_loss=self._redis_forgot,
                on_error=self._redis_trouble,
            ) as self._ledger,
        ):
            self._report.ledger = self._ledger
            yield

    @contextlib.asynccontextmanager
    async def _cluster(self) -> AsyncIterator[None]:
        reading = reading_of(self._settings)
        async with Api(self._access, reading, skip=lambda reason: metrics.skipped.labels(reason).inc()) as self._api:
            yield

    @contextlib.asynccontextmanager
    async def _log_reads(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            self._logs = await open_reads(
                stack, self._settings, self._api, self._ledger, done=self._queue.add, seen=metrics.log_was_read
            )
            yield

    @contextlib.asynccontextmanager
    async def _claims(self) -> AsyncIterator[None]:
        settings, ledger = self._settings, self._ledger
        self._finalizers = Finalizers(
            self._api,
            self._store,
            self._queue,
            self._scopes,
            longest=settings.finalizer_max_seconds,
            trouble=lambda: ledger.error if ledger.is_down else None,
        )
        reconciler = self._reconciler = Reconciler(
            self._store,
            self._finalizers,
            ledger,
            LogPlan(self._logs, all_logs=settings.log_containers == "all"),
            Options(
                namespaces=watched_namespaces(settings, self._access.namespace),
                log_wait=settings.log_wait_seconds,
                holds=settings.finalizer,
            ),
            Hooks(
                answered=lambda answer: metrics.answers_by_answer[answer].inc(),
                published=note,
                cannot_hold=self._finalizers.cannot_hold,
            ),
        )
        async with self._supervisor.running({"claims": self._renew_claims}):
            yield
        with contextlib.suppress(TimeoutError, LedgerError):
            async with asyncio.timeout(SPARE_SECONDS):
                await reconciler.claims.release()

    @contextlib.asynccontextmanager
    async def _workers(self) -> AsyncIterator[None]:
        workers = Workers(self._reconciler, self._queue, self._store)
        async with self._supervisor.running(workers.tasks):
            yield
            await workers.finish(self._grace.left(spare=SPARE_SECONDS))

    @contextlib.asynccontextmanager
    async def _reflectors(self) -> AsyncIterator[None]:
        tasks = {}
        for namespace in watched_namespaces(self._settings, self._access.namespace) or (None,):
            scope = NamespaceWatch(
                self._api,
                namespace,
                self._settings.label_selector,
                self._store,
                self._queue,
                self._reconciler,
                lambda reason: metrics.watch_restarts.labels(reason).inc(),
                holds=self._settings.finalizer,
            )
            self._scopes.append(scope)
            where = namespace or "*"
            tasks[f"pods {where}"] = scope.pods.run
            tasks[f"jobs {where}"] = scope.jobs.run
            tasks[f"open {where}"] = partial(self._look_for_vanished, scope)
        async with self._supervisor.running(tasks):
            yield

    @contextlib.asynccontextmanager
    async def _upkeep(self) -> AsyncIterator[None]:
        hearing = Liveness(lambda: [one for scope in self._scopes for one in scope.reflectors], self._api.version)
        self._report.hearing = hearing
        neighbourhood = Neighbourhood(self._ledger, ourselves(self._settings, self._access, self._ledger.identity))
        selection = Selection(self._api, self._store, self._scopes, self._settings.label_selector)
        rights = self._report.rights = Rights(self._api, self._scopes, finalizer=self._settings.finalizer)
        self._report.neighbours, self._report.selection = neighbourhood.neighbours, selection
        tasks = {
            "redis": self._ledger.watch_epoch,
            "finalizers": self._finalizers.run,
            "keep": self._keep_rows,
            "trim": self._trim,
            "hearing": hearing.run,
            "pulse": Housekeeping(self._store, self._queue, self._scopes).run,
            "neighbourhood": neighbourhood.run,
            "selection": selection.run,
            "rights": rights.run,
        }
        async with self._supervisor.running(tasks):
            yield
        await neighbourhood.leave()

    async def _look_for_vanished(self, scope: NamespaceWatch) -> None:
        """After each list: the Jobs that the ledger holds open and that are not in it went while nobody looked."""
        while True:
            await scope.synced()
            looked = scope.jobs.lists
            for uid in await self._ledger.open_uids():
                if self._store.job(uid) is None:
                    self._queue.add(uid)
            while scope.jobs.lists == looked:
                await asyncio.sleep(0.2)

    async def _renew_claims(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 3)
            await self._reconciler.claims.renew()

    async def _keep_rows(self) -> None:
        while True:
            await asyncio.sleep(min(KEEP_SECONDS, self._settings.retention_seconds / 3))
            await self._ledger.keep(list(self._reconciler.ended_uids()))

    async def _trim(self) -> None:
        trimming = Trimming(
            max_age=self._settings.stream_max_seconds,
            max_length=self._settings.stream_max_length,
            died=lambda group: log.warning("consumer group is dead, the stream is trimmed without it", group=group),
            revived=lambda group: log.info("consumer group is not dead any more", group=group),
        )
        refusal = ""
        while True:
            try:
                await trimming.trim(self._ledger)
            except LedgerError as error:
                # A key that somebody wrote over: no restart would help, and nothing else is any the worse for it.
                if refusal != (refusal := str(error)):
                    log.warning("a stream cannot be trimmed", why=refusal)
            metrics.dead_groups.set(len(trimming.dead))
            await asyncio.sleep(TRIM_SECONDS)

    def _redis_forgot(self, reason: str) -> None:
        """Everything the API server shows is looked at again; rows that survived make that silent."""
        if not self._scopes:
            return  # nothing was looked at yet
        log.warning("redis may have forgotten, listing again", reason=reason)
        self._reconciler.forget_all_published()
        self._store.forget_ended()
        for scope in self._scopes:
            scope.relist()

    def _redis_trouble(self, trouble: str | None) -> None:
        metrics.redis_up.set(trouble is None)
        if trouble is None:
            self._said.clear()
            log.info("redis answers", redis=masked(self._settings.redis_url))
        elif trouble not in self._said:
            self._said.add(trouble)
            log.warning("redis does not answer", redis=masked(self._settings.redis_url), why=trouble)


def identity() -> str:
    """Who we are in claims. Two containers on one host network have the same name and, both, pid 1: hence the rest."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
