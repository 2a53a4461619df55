"""The fate of a Job: its steps and the pauses before them. Pure.

Each step is one write to the API server, but for `known` and `published`, which wait: a Job that goes before anybody has seen
it, or before its end was published, is promised nothing without the finalizer.
"""

from dataclasses import dataclass
from random import Random

Steps = tuple[tuple[str, float], ...]
"""What is done, and the longest pause before it, in seconds."""

FATES: dict[str, tuple[int, Steps]] = {
    "completes": (30, (("create", 0), ("start", 1), ("ready", 1), ("complete", 6))),
    "completes-in-two-steps": (8, (("create", 0), ("start", 1), ("ready", 1), ("criteria", 6), ("complete", 2))),
    "completes-at-once": (8, (("create", 0), ("start", 0), ("complete", 0))),
    "fails": (14, (("create", 0), ("start", 1), ("ready", 1), ("target", 5), ("fail", 1))),
    "fails-after-retries": (
        6,
        (("create", 0), ("start", 1), ("ready", 1), ("retry", 2), ("ready", 1), ("retry", 2), ("fail", 1)),
    ),
    "deleted-while-running": (8, (("create", 0), ("start", 1), ("ready", 1), ("known", 0), ("delete", 4))),
    "deleted-before-start": (4, (("create", 0), ("known", 0), ("delete", 2))),
    "deleted-unseen": (2, (("create", 0), ("start", 0), ("delete", 0))),
    "suspended": (
        10,
        (("create", 0), ("start", 1), ("ready", 1), ("suspend", 4), ("resume", 4), ("ready", 1), ("complete", 4)),
    ),
    "suspended-twice": (
        8,
        (
            *(("create", 0), ("start", 1), ("ready", 1), ("suspend", 2), ("resume", 2), ("ready", 1)),
            *(("suspend", 2), ("resume", 2), ("ready", 1), ("fail", 3)),
        ),
    ),
    "created-suspended": (4, (("create-suspended", 0), ("hold", 1), ("resume", 5), ("ready", 1), ("complete", 4))),
    "suspended-and-deleted": (
        3,
        (("create", 0), ("start", 1), ("ready", 1), ("suspend", 3), ("known", 0), ("delete", 3)),
    ),
    "completes-and-is-removed": (
        6,
        (("create", 0), ("start", 1), ("ready", 1), ("complete", 4), ("published", 0), ("delete", 3)),
    ),
}
"""By name, how often among the others, and its steps."""
WITH_PODS: dict[str, tuple[int, Steps]] = {
    **FATES,
    "never-starts": (5, (("create", 0), ("start", 1), ("cannot-start", 1), ("fail", 3))),
}
"""Of Jobs that have Pods."""
PODS_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    action: str
    after: float
    """Seconds since the step before."""


@dataclass(frozen=True, slots=True)
class Fate:
    name: str
    steps: tuple[Step, ...]
    has_pods: bool


def draw(rng: Random) -> Fate:
    """One fate, with its pauses drawn."""
    has_pods = rng.random() < PODS_SHARE
    fates = WITH_PODS if has_pods else FATES
    name = rng.choices(list(fates), [often for often, _ in fates.values()])[0]
    steps = tuple(Step(action, round(rng.uniform(longest / 8, longest), 3)) for action, longest in fates[name][1])
    return Fate(name, steps, has_pods)
