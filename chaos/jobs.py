"""Drives Jobs through their lives by writing their status, as the manager in `spec.managedBy` does, and remembers what it wrote."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from chaos.access import MERGE, Cluster, Obj
from chaos.kubelet import Kubelet
from chaos.plan import JobPlan
from chaos.pods import MOMENT, Pods
from chaos.truth import Truth

MANAGER = "chaos.jobcast.dev/harness"
"""Kubernetes' own Job controller leaves these alone."""
WAIT_SECONDS = 90.0
"""For the ledger to know a Job, or for its end to be published: the longest that faults which overlap keep it from that."""

EARLY_SECONDS = 1.5
"""From a Pod's start to the startTime of its resumed Job, where the Job controller is slow: 7 s for 150 Pods."""

Waits = Callable[[str, float], Awaitable[bool]]
"""Until it is so of this Job's uid, or so many seconds are over; which of the two."""


def template(name: str) -> Obj:
    container = {"name": "evaluation", "image": "busybox", "command": ["true"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"app": "evaluation", "eval-id": name}},
        "spec": {
            "managedBy": MANAGER,
            "backoffLimit": 3,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


class Driver:
    """Drives all Jobs of a plan. `truths` is what has happened so far."""

    def __init__(
        self,
        bare: Cluster,
        with_pods: Cluster,
        kubelet: Kubelet,
        truths: dict[str, Truth],
        *,
        on_node: bool,
        known: Waits,
        published: Waits,
    ) -> None:
        """`truths` by the Job's name. Jobs with and without Pods live in two namespaces: in one, they are known to be taken for each other
        (docs/known-flaws.md)."""
        self.truths = truths
        self._bare = bare
        self._with_pods = with_pods
        self._kubelet = kubelet
        self._on_node = on_node
        self._known = known
        self._published = published

    async def live(self, plan: JobPlan) -> "Life":
        """One Job. Raises if the API server rejects a write: then the harness is wrong."""
        name = f"job-{plan.number:05}"
        truth = self.truths[name] = Truth(name, plan.fate.name)
        cluster = self._with_pods if plan.fate.has_pods else self._bare
        pods = Pods(cluster, name, self._kubelet, on_node=self._on_node) if plan.fate.has_pods else None
        life = Life(cluster, truth, pods, self._known, self._published, self._kubelet)
        for step in plan.fate.steps:
            await asyncio.sleep(step.after)
            await life.act(step.action)
        return life


class Life:
    def __init__(
        self, cluster: Cluster, truth: Truth, pods: Pods | None, known: Waits, published: Waits, kubelet: Kubelet
    ) -> None:
        self._cluster = cluster
        self._kubelet = kubelet
        self._pods = pods
        self._has_run = False
        """Since its last start."""
        self._may_go = True
        """It was seen, or published, where that was waited for. One that was not stays, and so counts as lost or left open."""
        self._truth = truth
        self._known = known
        self._published = published
        self._path = f"{cluster.jobs}/{truth.name}"
        self._conditions: list[Obj] = []
        self._started: str | None = None
        self._suspended: str | None = None
        self._last = datetime.min.replace(tzinfo=UTC)
        self._failed = 0
        self._is_pod_up = False

    @property
    def name(self) -> str:
        return self._truth.name

    @property
    def is_over(self) -> bool:
        """The Job has its end, and the API server shows it."""
        return bool(self._truth.ends) and self._truth.gone is None

    async def act(self, action: str) -> None:
        match action:
            case "create" | "create-suspended":
                await self._create(is_suspended=action == "create-suspended")
            case "start":
                await self._start()
            case "ready":
                await self._run()
            case "cannot-start":
                assert self._pods is not None, "only Pods show that"
                await self._pods.create(self._truth.uid)
                await self._pods.wait("ImagePullBackOff")
            case "retry":
                await self._end_pod(1)
                self._failed += 1
                await self._write(active=1, ready=0, failed=self._failed)
            case "criteria":
                self._condition("SuccessCriteriaMet", "CompletionsReached")
                await self._end_pod(0)
                await self._write(active=0, ready=0, succeeded=1)
            case "target":
                await self._end_pod(3)
                self._condition("FailureTarget", "BackoffLimitExceeded")
                await self._write(active=0, ready=0, failed=self._failed + 1)
            case "complete":
                await self._complete()
            case "fail":
                await self._fail()
            case "suspend":
                await self._spec(suspend=True)
                await self._suspend()
            case "hold":
                await self._suspend()
            case "resume":
                await self._resume()
            case "known":
                self._may_go = await self._known(self._truth.uid, WAIT_SECONDS)
                self._truth.known_at = time.monotonic() if self._may_go else None
            case "published":
                self._may_go = await self._published(self._truth.uid, WAIT_SECONDS)
            case "delete":
                await self._delete()
            case _:
                raise ValueError(action)

    async def _create(self, *, is_suspended: bool) -> None:
        job = template(self._truth.name)
        if is_suspended:
            job["spec"]["suspend"] = True
        status, made = await self._cluster.ask("POST", self._cluster.jobs, job, passing=(409,))
        if status == 409:
            _, made = await self._cluster.ask("GET", self._path)
        self._version = made["metadata"]["resourceVersion"]
        self._truth.uid = made["metadata"]["uid"]
        self._truth.created = time.monotonic()

    async def _start(self) -> None:
        self._started, self._has_run = self._moment(), False
        await self._write(startTime=self._started, active=1, ready=0)

    async def _run(self) -> None:
        """If there is a Pod, it shows the change first."""
        if self._pods is not None and not self._is_pod_up:
            await self._run_pod()
            self._note("running", self._started)
        await self._write(active=1, ready=1)
        self._has_run = True
        self._note("running", self._started)

    async def _run_pod(self) -> None:
        assert self._pods is not None
        # The API server's clock says when a Pod was made, and what was written before it must not lie ahead of that.
        await asyncio.sleep((self._last - datetime.now(UTC)).total_seconds())
        await self._pods.create(self._truth.uid)
        self._version = await self._pods.run(self._moment())
        self._has_run, self._is_pod_up = True, True

    async def _end_pod(self, code: int) -> None:
        if self._pods is not None and self._is_pod_up:
            await self._pods.end(code, self._moment())
            self._is_pod_up = False
            self._truth.exit_code, self._truth.log = code, self._pods.log

    async def _complete(self) -> None:
        if self._pods is not None and not self._has_run:  # it was too short for anybody to see it run
            await self._run_pod()
        await self._end_pod(0)
        self._condition("SuccessCriteriaMet", "CompletionsReached")
        self._condition("Complete", "CompletionsReached")
        await self._write(active=0, ready=0, succeeded=1, completionTime=self._moment())
        self._end("completed")

    async def _fail(self) -> None:
        await self._end_pod(3)
        self._condition("FailureTarget", "BackoffLimitExceeded")
        self._condition("Failed", "BackoffLimitExceeded")
        await self._write(active=0, ready=0, failed=self._failed + 1)
        self._end("failed")

    def _end(self, status: str) -> None:
        """Published with its last start, if that was not published before."""
        truth = self._truth
        # Without Pods, a Job that had started is taken to have run.
        if self._has_run or self._pods is None:
            truth.due.add(self._note("running", self._started))
        truth.ends = {self._note(status)}

    async def _suspend(self) -> None:
        self._suspended = self._moment()
        self._condition("Suspended", "JobSuspended", at=self._suspended)
        await self._write(active=0, ready=0)
        self._note("suspended", self._suspended)
        if self._pods is not None and self._is_pod_up:
            await self._pods.delete()
            self._is_pod_up = False

    async def _resume(self) -> None:
        await self._spec(suspend=False)
        self._has_run = False
        if self._pods is not None and self._kubelet.is_early:
            await self._run_pod()
            await asyncio.sleep(EARLY_SECONDS)
        self._started = self._moment()
        self._condition("Suspended", "JobResumed", status="False", at=self._started)
        await self._write(startTime=self._started, active=1, ready=0)

    async def _delete(self) -> None:
        if not self._may_go:
            return
        await self._cluster.ask("DELETE", self._path, {"propagationPolicy": "Background"}, passing=(404,))
        self.go()

    def go(self) -> None:
        """It was deleted, by whomever."""
        truth = self._truth
        truth.gone = time.monotonic()
        if not truth.ends:
            cancelled = self._note("cancelled")
            truth.ends = {cancelled} if truth.known_at is not None else set()

    async def _spec(self, **change: bool) -> None:
        await self._cluster.ask("PATCH", self._path, {"spec": change}, kind=MERGE)

    async def _write(self, **status: object) -> None:
        change = {"status": {**status, "conditions": self._conditions}}
        _, job = await self._cluster.ask("PATCH", f"{self._path}/status", change, kind=MERGE)
        self._version = job["metadata"]["resourceVersion"]

    def _note(self, status: str, key: str | None = "") -> str:
        return self._truth.note(status, time.monotonic(), self._version, key or "").id

    def _condition(self, kind: str, reason: str, *, status: str = "True", at: str | None = None) -> None:
        if any(known["type"] == kind and known["status"] == status for known in self._conditions):
            return
        moment = at or self._moment()
        new = {"type": kind, "status": status, "reason": reason, "lastProbeTime": moment, "lastTransitionTime": moment}
        self._conditions = [known for known in self._conditions if known["type"] != kind] + [new]

    def _moment(self) -> str:
        """Now, to the second, and a second later than the one before: two starts, or suspensions, within one second have one
        id (docs/known-flaws.md)."""
        now = datetime.now(UTC).replace(microsecond=0)
        self._last = max(now, self._last + timedelta(seconds=1))
        return self._last.strftime(MOMENT)
