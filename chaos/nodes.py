"""The faults of nodes and the control plane: logs, clocks, a Job controller that is behind, and namespaces that are deleted."""

import asyncio

from chaos.fault import Fault
from chaos.jobs import Life
from chaos.pods import Pods
from chaos.truth import Truth

SKEWS = (-10.0, 2.0, -2.0, 10.0)
"""Seconds by which the nodes' clocks are ahead. Two are what time synchronisation lets pass; ten, a node without any."""

DOOMED_JOBS = 5
"""In a namespace that is deleted."""


class LogCut(Fault):
    """The way from the API server to the kubelets breaks in the middle of every log: no answer shows it."""

    kinds = ("log-cut",)

    async def begin(self) -> None:
        for name in self.plan.targets:
            self.world.api.doors[name].cuts_logs = True

    async def end(self) -> None:
        for name in self.plan.targets:
            self.world.api.doors[name].cuts_logs = False


class ClocksApart(Fault):
    """Pods that start now have the times of a node whose clock is wrong."""

    kinds = ("clocks-apart",)

    async def begin(self) -> None:
        self.world.kubelet.skew = SKEWS[self.plan.number % len(SKEWS)]

    async def end(self) -> None:
        self.world.kubelet.skew = 0.0


class StartLate(Fault):
    """The Job controller writes a resumed Job's startTime when its first Pods run already."""

    kinds = ("start-late",)

    async def begin(self) -> None:
        self.world.kubelet.is_early = True

    async def end(self) -> None:
        self.world.kubelet.is_early = False


class NamespaceDeleted(Fault):
    """Deleted with its Jobs, which run, and the RoleBinding that lets Jobcast look at them."""

    kinds = ("namespace-deleted",)

    async def begin(self) -> None:
        world = self.world
        cluster = world.doomed.pop()
        lives = []
        for number in range(DOOMED_JOBS):
            name = f"doomed-{self.plan.number:02}-{number}"
            truth = world.truths[name] = Truth(name, "deleted-with-its-namespace")
            pods = Pods(cluster, name, world.kubelet, on_node=world.devcluster)
            lives.append(Life(cluster, truth, pods, world.known, world.published, world.kubelet))
        await asyncio.gather(*(self._run(life) for life in lives))
        world.api.unbound.add(cluster.namespace)
        await cluster.ask("DELETE", f"/api/v1/namespaces/{cluster.namespace}", passing=(404, 409))
        for life in lives:
            life.go()

    async def _run(self, life: Life) -> None:
        for action in ("create", "start", "ready", "known"):
            await life.act(action)


NODE_FAULTS: tuple[type[Fault], ...] = (LogCut, ClocksApart, StartLate, NamespaceDeleted)
