"""What every fault is."""

from typing import ClassVar

from chaos.parts import Part
from chaos.plan import FaultPlan
from chaos.world import World


class Fault:
    """`kinds` are its names in the plan."""

    kinds: ClassVar[tuple[str, ...]] = ()

    def __init__(self, world: World, plan: FaultPlan) -> None:
        self.world = world
        self.plan = plan

    async def begin(self) -> None: ...

    async def end(self) -> None: ...

    @property
    def part(self) -> Part:
        return self.world.parts[self.plan.targets[0]]
