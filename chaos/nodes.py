"""The faults of nodes: their logs, their clocks, and a Job controller that is behind them."""

from chaos.fault import Fault

SKEWS = (-10.0, 2.0, -2.0, 10.0)
"""Seconds by which the nodes' clocks are ahead. Two are what time synchronisation lets pass; ten, a node without any."""


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


NODE_FAULTS: tuple[type[Fault], ...] = (LogCut, ClocksApart, StartLate)
