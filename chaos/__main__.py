"""`python -m chaos`: the fault run on the cluster of the current kubeconfig, or on devcluster. Exit code 0: no event was lost or
published twice; 1: some were; 2: wrong options."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from chaos.plan import KINDS, NOT_YET, Plan, plan
from chaos.report import lines
from chaos.run import Run
from chaos.world import Means, World


def main() -> int:
    asked = _arguments()
    means = Means(asked.restart_apiserver, asked.compact, _faketime())
    kinds = set(asked.only.split(",")) if asked.only else set(KINDS) - NOT_YET
    if unknown := kinds - set(KINDS):
        print(f"unknown fault: {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}", file=sys.stderr)
        return 2
    missing = {"server-restarted": means.restart_server, "compacted": means.compact, "clock": means.faketime}
    left_out = {kind for kind, mean in missing.items() if mean is None}
    planned = plan(asked.seed, asked.jobs, asked.faults, asked.rate, kinds - left_out)
    if asked.plan:
        print("\n".join(map(str, planned.faults)))
        return 0
    if left_out & kinds:
        print(f"left out, because the command or library is missing: {', '.join(sorted(left_out & kinds))}", flush=True)
    try:
        return asyncio.run(_run(planned, means, asked))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 1


async def _run(planned: Plan, means: Means, asked: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    settings = dict(setting.split("=", 1) for setting in asked.env)
    doomed = sum(fault.kind == "namespace-deleted" for fault in planned.faults)
    world = World(means, devcluster=asked.devcluster, settings=settings, doomed_namespaces=doomed)
    async with world:
        result = await Run(planned, world, asked.patience).carry_out()
        world.keep_logs = asked.keep or not result.is_green
        print("\n".join(lines(result, str(world.folder))), flush=True)
        return 0 if result.is_green else 1


def _faketime() -> str | None:
    """The library of Debian's package `faketime`, in its form for threads."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=25.0, help="highest number of new Jobs per second")
    parser.add_argument(
        "--devcluster", action="store_true", help="use devcluster instead of the cluster of the current kubeconfig"
    )
    parser.add_argument(
        "--restart-apiserver",
        metavar="CMD",
        help="command that restarts the API server and returns when it answers again",
    )
    parser.add_argument(
        "--compact", metavar="CMD", help="command that compacts etcd, so that every watch history is lost"
    )
    parser.add_argument(
        "--patience", type=float, default=180.0, help="longest wait for missing events at the end, in seconds"
    )
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a setting for controllers and workers; may be repeated",
    )
    parser.add_argument("--only", metavar="KINDS", help=f"run only these faults, a comma list of {', '.join(KINDS)}")
    parser.add_argument("--plan", action="store_true", help="print the faults of this seed and exit")
    parser.add_argument("--keep", action="store_true", help="keep the logs of all processes, also after success")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
