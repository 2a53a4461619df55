"""Makes a plan from a seed: the Jobs and their fates, the faults and their times. Pure.

Jobs and faults are drawn apart, so the same seed gives the same faults to however many Jobs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random

from chaos.fates import Fate, draw

CONTROLLERS = ("controller-0", "controller-1", "controller-2")
WORKERS = ("worker-0", "worker-1")
PARTS = (*CONTROLLERS, *WORKERS)
FAULT_SECONDS = 2.0
"""Average seconds between two faults. On a busy machine a process takes 2 s to start."""
TRIES = 8
"""How many targets are tried before a fault is postponed."""
REST_SECONDS = 1.0
"""Seconds between two faults of the same target, so that the second one finds it working."""
LONGEST_STOP_SECONDS = 30.0
ALL_SHARE = 0.3
"""The share of faults between a process and the API server that hit all processes, as behind one load balancer."""
NOT_YET = frozenset({"namespace-deleted"})
"""Only where they are asked for: they find what is still wrong. A controller that starts after its namespace went together with
the permission to look at it has nothing that proves the deletion (docs/known-flaws.md)."""
FORGETTING_SHARE = 40
"""One in so many faults, and one of each kind, loses Redis' data: Jobcast then publishes everything that the API server has again."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its target, and for how long."""

    lane: str
    """`part`: one process; `identity`: one process and its way to the API server; `controllers`: all of them; `api`: the way of one part, or of all, to the API server; `watch`: the same, of
    those that watch; `watches`: of all of these; `server`: the
    API server itself; `redis`; `clocks` of the nodes; `starts` of Jobs; `namespaces`; `link`: one part's way to Redis; `reader`."""
    shortest: float
    longest: float
    weight: int = 4
    forgets: bool = False
    """Whether Redis loses what it had acknowledged."""


KINDS: dict[str, Kind] = {
    "kill": Kind("part", 0.0, 2.0, 10),
    "all-killed": Kind("controllers", 0.5, 6.0),
    "terminate": Kind("part", 0.0, 1.0, 6),
    "stop": Kind("part", 1.0, LONGEST_STOP_SECONDS, 6),
    "clock": Kind("part", 3.0, 15.0, 3),
    "watch-cut": Kind("watch", 0.0, 0.0, 6),
    "watch-stalled": Kind("watch", 1.0, 12.0, 5),
    "watch-410": Kind("watch", 0.0, 0.0, 4),
    "watch-lost": Kind("watches", 0.5, 6.0),
    "answer-410": Kind("watch", 0.5, 3.0),
    "answer-429": Kind("api", 0.5, 5.0),
    "answer-500": Kind("api", 0.5, 5.0),
    "answer-503": Kind("api", 0.5, 5.0),
    "answer-empty": Kind("api", 0.5, 5.0),
    "answer-401": Kind("api", 0.5, 5.0),
    "answer-403": Kind("api", 0.5, 5.0),
    "api-away": Kind("api", 0.5, 8.0),
    "server-restarted": Kind("server", 0.0, 0.0, 2),
    "compacted": Kind("server", 0.0, 0.0, 3),
    "redis-killed": Kind("redis", 0.0, 3.0),
    "redis-stopped": Kind("redis", 1.0, 10.0),
    "redis-full": Kind("redis", 0.5, 6.0),
    "redis-readonly": Kind("redis", 0.5, 6.0),
    "redis-emptied": Kind("redis", 0.0, 2.0, 2, forgets=True),
    "redis-failover": Kind("redis", 1.0, 1.0, 2, forgets=True),
    "reply-lost": Kind("link", 0.5, 4.0, 8),
    "connection-reset": Kind("link", 0.0, 0.0, 6),
    "link-away": Kind("link", 1.0, 10.0, 6),
    "reader-crash": Kind("reader", 0.0, 1.0, 3),
    "log-cut": Kind("api", 3.0, 12.0, 3),
    "clocks-apart": Kind("clocks", 8.0, 20.0, 3),
    "start-late": Kind("starts", 8.0, 20.0, 3),
    "namespace-deleted": Kind("namespaces", 0.0, 0.0, 1),
    "token-renewed": Kind("api", 1.0, 3.0),
    "certificate-renewed": Kind("identity", 1.0, 3.0),
    "kubeconfig-list": Kind("identity", 1.0, 3.0),
}


@dataclass(frozen=True, slots=True)
class JobPlan:
    number: int
    at: float
    """Seconds from the beginning."""
    fate: Fate


@dataclass(frozen=True, slots=True)
class FaultPlan:
    number: int
    at: float
    kind: str
    targets: tuple[str, ...]
    """Process names; empty for a target of which there is one."""
    seconds: float

    def __str__(self) -> str:
        where = "all" if len(self.targets) > 1 else "".join(self.targets)
        return f"{self.at:7.2f} s  {self.kind:18}{where:14}{self.seconds:6.2f} s"


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    seconds: float
    """Seconds in which Jobs are created and faults begin."""
    jobs: tuple[JobPlan, ...]
    faults: tuple[FaultPlan, ...]

    @property
    def finale(self) -> FaultPlan | None:
        """The last fault, where it makes Redis forget. All that the API server shows is published again then, also what was lost
        before: so it begins only when all before it has come to rest and was judged."""
        return self.faults[-1] if self.faults and KINDS[self.faults[-1].kind].forgets else None


def plan(seed: int, jobs: int, faults: int, rate: float, kinds: Collection[str] = tuple(KINDS)) -> Plan:
    """`rate` is the highest number of new Jobs per second; with many faults there are fewer."""
    seconds = max(jobs / rate, faults * FAULT_SECONDS)
    rng = Random(f"jobs {seed}")
    arrivals = sorted(rng.uniform(0, seconds) for _ in range(jobs))
    planned = tuple(JobPlan(number, round(at, 3), draw(rng)) for number, at in enumerate(arrivals))
    return Plan(seed, seconds, planned, _faults(seed, faults, seconds, kinds))


def _faults(seed: int, count: int, seconds: float, kinds: Collection[str]) -> tuple[FaultPlan, ...]:
    rng = Random(f"faults {seed}")
    free: dict[str, float] = {}
    planned: list[FaultPlan] = []
    names = _deal(rng, count, kinds)
    times = sorted(rng.uniform(1, max(seconds, 2)) for _ in range(count))
    for number, (at, name) in enumerate(zip(times, names, strict=True)):
        kind = KINDS[name]
        if kind.forgets and number == count - 1:
            at = max([at, *free.values()])
        lasts = round(rng.uniform(kind.shortest, max(kind.shortest, min(kind.longest, seconds / 8))), 3)
        targets = _targets(rng, kind.lane)
        tries = 0
        while any(free.get(lane, 0.0) > at for lane in lanes_of(name, targets)):
            # Rather another part than another time; where all are busy, or there is but one, it is late.
            targets, tries = _targets(rng, kind.lane), tries + 1
            at += 0.05 if tries % TRIES == 0 else 0.0
        for lane in lanes_of(name, targets):
            free[lane] = at + lasts + REST_SECONDS
        planned.append(FaultPlan(number, round(at, 3), name, targets, lasts))
    return tuple(sorted(planned, key=lambda fault: fault.at))


def _deal(rng: Random, count: int, kinds: Collection[str]) -> list[str]:
    """Each kind once as far as there is room, then as often as it weighs; those that make Redis forget are counted off, and the first
    of them is the last of all: a process that starts afterwards would publish everything anyway, and hide that none noticed."""
    names = [name for name in KINDS if name in kinds]
    forgetting = [name for name in names if KINDS[name].forgets]
    others = [name for name in names if not KINDS[name].forgets]
    share = max(len(forgetting), count // FORGETTING_SHARE) if others else count
    share = min(share, count) if forgetting else 0
    rest = count - share
    dealt = rng.sample(others, min(rest, len(others)))
    dealt += rng.choices(others, [KINDS[name].weight for name in others], k=rest - len(dealt)) if others else []
    dealt += [forgetting[turn % len(forgetting)] for turn in range(share)]
    rng.shuffle(dealt)
    if forgetting and share:
        dealt.remove(forgetting[0])
        dealt.append(forgetting[0])
    return dealt


def _targets(rng: Random, lane: str) -> tuple[str, ...]:
    if lane in ("controllers", "watches"):
        return CONTROLLERS
    some: Sequence[str] = {"part": PARTS, "identity": PARTS, "link": PARTS, "api": PARTS, "watch": CONTROLLERS}.get(
        lane, ()
    )
    if not some:
        return ()
    if lane in ("api", "watch") and rng.random() < ALL_SHARE:
        return tuple(some)
    return (rng.choice(some),)


def lanes_of(kind: str, targets: tuple[str, ...]) -> list[str]:
    """The targets that it needs and occupies, in a fixed order."""
    lane = KINDS[kind].lane
    if lane == "identity":
        return [*targets, *(f"api {target}" for target in targets)]
    if lane in ("api", "watch", "watches", "link"):
        return [f"{'link' if lane == 'link' else 'api'} {target}" for target in targets]
    return list(targets) or [lane]
