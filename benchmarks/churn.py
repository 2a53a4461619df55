"""Memory while Jobs come and go: a controller that has seen a million of them is to be as small as after the first tenth.

JOBS=1000000 for the real thing; what is printed on the way are its figures.
"""

import os
import tempfile
import time
from pathlib import Path

import redis

from benchmarks.replay import Player, Tape, playing
from benchmarks.running import Running, running
from benchmarks.watch import kubeconfig
from testbed.valkey import valkey

JOBS = 20_000
TAPE = Tape(running=300, staying=1000, pods_every=10)
AHEAD = 500
"""Jobs that may have ended and are not published: what is measured is what stays, not a queue."""
SETTINGS = {"RETENTION_SECONDS": "60", "STREAM_MAX_LENGTH": "10000", "LOG_LEVEL": "warning"}
"""So that Redis, too, forgets while we look."""


def rows() -> list[tuple[str, str, str]]:
    jobs = int(os.environ.get("JOBS", JOBS))
    with tempfile.TemporaryDirectory() as folder, valkey() as server, playing(TAPE) as player:
        config = kubeconfig(Path(folder), player.url)
        settings = {"KUBECONFIG": config, "REDIS_URL": server.url, **SETTINGS}
        with running(folder, **settings) as controller, redis.Redis(port=server.port) as client:
            controller.wait_until_ready()
            started = time.monotonic()
            sizes = [_play(player, client, controller, jobs * tenth // 10) for tenth in range(1, 11)]
            seconds = time.monotonic() - started
    first, last = sizes[0], sizes[-1]
    return [
        (
            f"memory after {jobs:,} Jobs came and went",
            f"{last / 1e6:.1f} MB",
            f"{(last - first) / first:+.1%} since the first tenth ({first / 1e6:.1f} MB); most {max(sizes) / 1e6:.1f} MB;"
            f" {jobs / seconds:,.0f} Jobs/s",
        )
    ]


def _play(player: Player, client: redis.Redis, controller: Running, jobs: int) -> int:
    """Until so many have ended in all and are published; returns the bytes in memory then."""
    while (published := _published(client)) < jobs:
        player.play(min(jobs, published + AHEAD))
        time.sleep(0.02)
    size = controller.rss()
    print(f"{time.strftime('%H:%M:%S')} {jobs:,} Jobs: {size / 1e6:.1f} MB", flush=True)
    return size


def _published(client: redis.Redis) -> int:
    """Ends published: each Job has a running, and an end once it has ended."""
    events = (
        int(client.xinfo_stream("{evaluation}:events")["entries-added"]) if client.exists("{evaluation}:events") else 0
    )
    return max(0, (events - TAPE.running) // 2)
