"""The play: start the parts, run the Jobs, show their events, sum up, and leave nothing behind."""

import signal
import sys
import time
from types import FrameType

import redis
from rich.console import Console

from demo.handlers import SCORES
from demo.jobs import EVALUATIONS, Cluster
from demo.parts import Parts
from demo.screen import Screen
from jobcast.client import Client
from jobcast.event import Event, Running
from testbed.valkey import NotStarted

LONGEST_SECONDS = 45.0
"""Of the Jobs together; the longest is the one with a deadline of 4 s. More means that something is broken."""
RETRY_AFTER_SECONDS = 2
"""The Job that fails at first succeeds once the clock is past this."""


def main() -> int:
    """The exit code: 0 when every evaluation ended as expected."""
    console = Console(highlight=False)
    # A kill is to clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    try:
        with Parts() as parts:
            console.print("starting an embedded Valkey, devcluster, the controller and the worker ...")
            cluster = Cluster(parts.start_all())
            console.print(f"ready after {time.monotonic() - started:.1f} s; creating {len(EVALUATIONS)} Jobs\n")
            ends, scores = _run(parts, cluster, console)
    except NotStarted as error:
        console.print(str(error), style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    return _sum_up(console, ends, scores, time.monotonic() - started)


def _run(parts: Parts, cluster: Cluster, console: Console) -> tuple[dict[str, Event], dict[str, str]]:
    ends: dict[str, Event] = {}
    deadline = time.monotonic() + LONGEST_SECONDS
    with Client(parts.redis_url) as jobcast, Screen(console) as screen, jobcast.follow("0") as feed:
        environment = {"NOT_BEFORE": str(int(time.time()) + RETRY_AFTER_SECONDS)}
        for evaluation in EVALUATIONS:
            cluster.create(evaluation, environment)
        for event in feed:
            screen.show(event)
            if isinstance(event, Running) and event.eval_id == "deleted":
                cluster.delete("deleted")
            if event.status.is_terminal:
                ends[event.eval_id] = event
            if len(ends) == len(EVALUATIONS) or time.monotonic() > deadline:
                break
    return ends, _scores(parts.redis_url, sum(event.status == "completed" for event in ends.values()))


def _scores(url: str, expected: int) -> dict[str, str]:
    """What the Celery handler has kept: one for each completed evaluation, within seconds of its event."""
    deadline = time.monotonic() + 15
    with redis.Redis.from_url(url, decode_responses=True) as client:
        while True:
            scores: dict[str, str] = client.hgetall(SCORES)
            if len(scores) >= expected or time.monotonic() > deadline:
                return scores
            time.sleep(0.05)


def _sum_up(console: Console, ends: dict[str, Event], scores: dict[str, str], seconds: float) -> int:
    wrong = [e for e in EVALUATIONS if e.name not in ends or ends[e.name].status != e.expected]
    console.print("\nthe Celery handler `score` of demo/handlers.py found:")
    for name, score in sorted(scores.items()):
        console.print(f"  {name:10} {score}", markup=False)
    unscored = [e.name for e in EVALUATIONS if e.expected == "completed" and e.name not in scores]
    for evaluation in wrong:
        published = ends[evaluation.name].status if evaluation.name in ends else "no end"
        console.print(f"wrong: {evaluation.name}: expected {evaluation.expected}, got {published}", style="red")
    for name in unscored:
        console.print(f"wrong: the handler did not run for {name}", style="red")
    good = len(EVALUATIONS) - len(wrong)
    console.print(
        f"\n{good} of {len(EVALUATIONS)} evaluations ended as expected, {len(scores)} scored, in {seconds:.1f} s; "
        "no process is left running.",
        soft_wrap=True,
    )
    return 1 if wrong or unscored else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
