"""Redis is down while Jobs end: how much memory that costs, and how soon all ends are published afterwards.

SECONDS=600 for the real thing.
"""

import os
import tempfile
import time
from pathlib import Path

import redis

from benchmarks.replay import Tape, playing
from benchmarks.running import Running, running
from benchmarks.watch import kubeconfig
from testbed.valkey import valkey

SECONDS = 60
RATE = 100
"""Jobs that end in a second."""
TAPE = Tape(running=1000, staying=None, log_bytes=64 * 1024)
BEFORE = 2_000
"""Jobs that end before the outage, so that what any work leaves behind is there already."""
LIMIT_SECONDS = 300
"""A controller that has not published everything by then has failed."""
EVENTS = "{evaluation}:events"


def rows() -> list[tuple[str, str, str]]:
    seconds = float(os.environ.get("SECONDS", SECONDS))
    with (
        tempfile.TemporaryDirectory() as folder,
        valkey("--appendfsync", "everysec", persistent=True) as server,
        playing(TAPE) as player,
    ):
        config = kubeconfig(Path(folder), player.url)
        settings = {"KUBECONFIG": config, "REDIS_URL": server.url, "LOG_LEVEL": "warning"}
        with running(folder, **settings) as controller, redis.Redis(port=server.port) as client:
            controller.wait_until_ready()
            player.play(BEFORE, RATE * 5)
            _wait_until_published(client, BEFORE)
            before = controller.rss()
            server.stop(kill=True)
            jobs = BEFORE + int(seconds * RATE)
            player.play(jobs, RATE)
            while player.position().ended < jobs:
                time.sleep(0.5)
            during, probes = controller.rss(), _probes(controller)
            server.start()
            back = time.monotonic()
            _wait_until_published(client, jobs)
            until_published = time.monotonic() - back
            most = controller.peak()
            time.sleep(2)  # what is freed goes back to the system a second later
            after, order = controller.rss(), _order(client)
    ended = jobs - BEFORE
    return [
        (
            f"memory while Redis is down for {seconds:.0f} s and {RATE} Jobs/s end",
            f"{during / 1e6:.1f} MB",
            f"{before / 1e6:.1f} MB before: {(during - before) / ended:,.0f} B a Job; most {most / 1e6:.1f} MB,"
            f" {after / 1e6:.1f} MB afterwards",
        ),
        (
            f"until {ended:,} ends are published after Redis works again",
            f"{until_published:.1f} s",
            f"{order}; meanwhile {probes}",
        ),
    ]


def _wait_until_published(client: redis.Redis, jobs: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while (published := _published(client)) < 2 * jobs + TAPE.running:
        assert time.monotonic() < deadline, f"{published} events of {jobs} ended Jobs"
        time.sleep(0.05)


def _published(client: redis.Redis) -> int:
    return int(client.xinfo_stream(EVENTS)["entries-added"]) if client.exists(EVENTS) else 0


def _probes(controller: Running) -> str:
    readiness, why = controller.get("/readyz")
    return f"livez {controller.get('/livez')[0]}, readyz {readiness} ({why.strip().partition(':')[0]})"


def _order(client: redis.Redis) -> str:
    """Of the stream, in one sentence."""
    last: dict[bytes, bytes] = {}
    wrong = 0
    start = b"-"
    while entries := client.xrange(EVENTS, start, count=1000):
        for name, fields in entries:
            expected = {None: b"running", b"running": b"completed"}.get(last.get(fields[b"eval_id"]))
            wrong += fields[b"status"] != expected
            last[fields[b"eval_id"]] = fields[b"status"]
            start = b"(" + name
    return "all in order and once" if not wrong else f"{wrong} out of order or twice"
