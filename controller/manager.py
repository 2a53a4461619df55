"""One replica: its components, in the order in which they start. They stop in reverse, within one grace period.

probes        `/livez` answers from the first moment
redis         the ledger, through which everything after it reaches Redis
cluster       every request to the API server
logs          reads under way are cancelled, and another replica starts them again
claims        renewed while their logs are read; released at the end
workers       Jobs that are being reconciled are finished
reflectors    no further changes come in
upkeep        what is done now and then
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from functools import partial

from prometheus_client import generate_latest

from controller import metrics
from controller.checks import Checks, watched_by
from controller.finalizers import Finalizers
from controller.housekeeping import Housekeeping
from controller.liveness import Liveness
from controller.mirror import Mirror
from controller.readiness import Readiness
from controller.settings import ControllerSettings
from controller.upkeep import RedisLog, Upkeep
from controller.workers import Workers, count_and_log
from jobcast.keys import Keys
from jobcast.kube import JOBS, Access, Api, Permission, missing, own_namespace
from jobcast.ledger.ledger import Ledger
from jobcast.logs.plan import LogPlan, open_reads
from jobcast.logs.reader import LogReads
from jobcast.reconcile.reconciler import Hooks, Options, Reconciler
from jobcast.redis.batcher import LedgerError
from jobcast.redis.connection import connect, masked
from jobcast.service.http import serve
from jobcast.service.lifecycle import Component, Grace, running
from jobcast.service.membership import CONTROLLER
from jobcast.service.probes import Probes
from jobcast.service.registration import AsyncRegistration, describe
from jobcast.service.settings import reading_of, watched_namespaces
from jobcast.service.supervisor import Supervisor

log = logging.getLogger(__name__)

SPARE_SECONDS = 1.0
"""Of the grace period, for what stops after the workers: claims are released, connections closed."""


class _Made:
    """What a component makes for those that start after it."""

    ledger: Ledger
    api: Api
    logs: LogReads
    finalizers: Finalizers
    reconciler: Reconciler
    upkeep: Upkeep


class Controller:
    """`run` returns when `stop` was called and everything has ended."""

    def __init__(self, settings: ControllerSettings, access: Access) -> None:
        self._settings = settings
        self._access = access
        self._stopping = asyncio.Event()
        self._grace = Grace(settings.grace_seconds)
        self._supervisor = Supervisor(restarted=lambda task: metrics.task_restarts.labels(task).inc())
        self._mirror = Mirror()
        self._readiness = Readiness(
            self._stopping, self._supervisor, self._mirror, redis_url=settings.redis_url, access=access
        )
        self._made = _Made()
        self._probes = Probes(partial(generate_latest, metrics.registry))
        self._readiness.install(self._probes)
        self.http_port: int | None = None
        """The port that the probes are served on, once they are."""

    @property
    def components(self) -> tuple[Component, ...]:
        return (
            Component("probes", self._serve_probes),
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
        async with running(self.components, self._grace):
            log.info(
                "controller started",
                extra={
                    "namespaces": list(watched_namespaces(self._settings, self._access.namespace) or "*"),
                    "selector": self._settings.label_selector,
                    "cluster": self._access.host,
                    "redis": masked(self._settings.redis_url),
                    "http": self.http_port,
                },
            )
            await self._stopping.wait()
            log.info("controller stopping")
            self._grace.begin()
        log.info("controller stopped")

    @contextlib.asynccontextmanager
    async def _serve_probes(self) -> AsyncIterator[None]:
        async with serve(self._settings.http_host, self._settings.http_port, self._probes) as self.http_port:
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
                on_data_loss=self._redis_lost_data,
                on_error=RedisLog(settings.redis_url).note,
            ) as self._made.ledger,
        ):
            self._readiness.ledger = self._made.ledger
            yield

    @contextlib.asynccontextmanager
    async def _cluster(self) -> AsyncIterator[None]:
        reading = reading_of(self._settings)
        async with Api(self._access, reading, skip=lambda reason: metrics.skipped.labels(reason).inc()) as api:
            self._made.api = api
            yield

    @contextlib.asynccontextmanager
    async def _log_reads(self) -> AsyncIterator[None]:
        made, queue = self._made, self._mirror.queue
        async with contextlib.AsyncExitStack() as stack:
            made.logs = await open_reads(
                stack, self._settings, made.api, made.ledger, done=queue.add, seen=metrics.log_was_read
            )
            yield

    @contextlib.asynccontextmanager
    async def _claims(self) -> AsyncIterator[None]:
        settings, made, ledger = self._settings, self._made, self._made.ledger
        made.finalizers = Finalizers(
            made.api,
            self._mirror,
            longest=settings.finalizer_max_seconds,
            redis_error=lambda: ledger.error if ledger.is_down else None,
        )
        reconciler = made.reconciler = Reconciler(
            self._mirror.store,
            made.finalizers,
            ledger,
            LogPlan(made.logs, all_logs=settings.log_containers == "all"),
            Options(
                namespaces=watched_namespaces(settings, self._access.namespace),
                log_wait=settings.log_wait_seconds,
                holds=settings.finalizer,
            ),
            Hooks(
                answered=lambda answer: metrics.answers_by_answer[answer].inc(),
                published=count_and_log,
                cannot_hold=made.finalizers.cannot_hold,
            ),
        )
        made.upkeep = Upkeep(settings, ledger, reconciler, self._mirror)
        async with self._supervisor.running({"claims": made.upkeep.renew_claims}):
            yield
        with contextlib.suppress(TimeoutError, LedgerError):
            async with asyncio.timeout(SPARE_SECONDS):
                await reconciler.claims.release()

    @contextlib.asynccontextmanager
    async def _workers(self) -> AsyncIterator[None]:
        workers = Workers(self._made.reconciler, self._mirror)
        async with self._supervisor.running(workers.tasks):
            yield
            await workers.finish(self._grace.left(spare=SPARE_SECONDS))

    @contextlib.asynccontextmanager
    async def _reflectors(self) -> AsyncIterator[None]:
        settings, made, mirror, tasks = self._settings, self._made, self._mirror, {}
        for namespace in watched_namespaces(settings, self._access.namespace) or (None,):
            watch = mirror.add_watch(
                made.api, namespace, settings.label_selector, made.reconciler, holds=settings.finalizer
            )
            where = namespace or "*"
            tasks[f"pods {where}"] = watch.pods.run
            tasks[f"jobs {where}"] = watch.jobs.run
            tasks[f"open {where}"] = partial(made.upkeep.enqueue_vanished, watch)
        async with self._supervisor.running(tasks):
            yield

    @contextlib.asynccontextmanager
    async def _upkeep(self) -> AsyncIterator[None]:
        made, mirror, readiness = self._made, self._mirror, self._readiness
        # Any account may ask this. Unlike the version, no proxy and no server answers it to strangers.
        ask = partial(missing, made.api, (Permission("list", JOBS),), None)
        liveness = readiness.liveness = Liveness(lambda: mirror.statuses, ask, self._access)
        checks = readiness.checks = Checks(made.api, mirror, watched_by(self._settings, self._access))
        own = own_namespace()
        name = made.ledger.identity if own is None else f"{own}/{socket.gethostname()}"
        member = describe(CONTROLLER, name, self._settings, self._access)
        registration = AsyncRegistration(made.ledger, member, self._probes.membership)
        tasks = {
            "redis": made.ledger.watch_epoch,
            "finalizers": made.finalizers.run,
            "keep": made.upkeep.keep_rows,
            "trim": made.upkeep.trim,
            "liveness": liveness.run,
            "housekeeping": Housekeeping(mirror).run,
            "membership": registration.run,
            **checks.tasks,
        }
        async with self._supervisor.running(tasks):
            yield
        await registration.leave()

    def _redis_lost_data(self, reason: str) -> None:
        """Reconcile everything that the API server has. Where the rows have survived, nothing is published again."""
        if not self._mirror.watches:
            return  # nothing was listed yet
        log.warning("redis may have lost data, listing again", extra={"reason": reason})
        self._made.reconciler.forget_all_published()
        self._mirror.store.forget_ended()
        self._mirror.relist()


def identity() -> str:
    """Our name in claims. On one host network two containers have the same host name and, both, process id 1: hence the random
    suffix."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
