"""The poll: one worker at a time, now and then, whatever happens to the last round."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from workers import Worker, until, world

from worker import metrics
from worker.settings import WorkerSettings
from worker.sweep import Sweep


class Rounds:
    """Counts rounds; each ends when it may."""

    def __init__(self, found: int = 0, *, gate: bool = False) -> None:
        self.begun = 0
        self.cancelled = 0
        self.found = found
        self.error: Exception | None = None
        self._gate = gate

    async def __call__(self) -> int:
        self.begun += 1
        if self.error is not None:
            raise self.error
        try:
            while self._gate:
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.found


@contextmanager
def sweeping(
    url: str, rounds: Rounds, every: float = 0.2, *, prefix: str = "sweep", longest: float = 60
) -> Iterator[Sweep]:
    settings = WorkerSettings(redis_url=url, key_prefix=prefix, sweep_seconds=every)
    sweep = Sweep(settings, threading.current_thread().name, rounds, longest_round=longest)
    sweep.start()
    try:
        yield sweep
    finally:
        sweep.stop()


def test_of_two_sweeps_only_one_runs(valkey) -> None:
    one, other = Rounds(), Rounds()
    with sweeping(valkey.url, one, 60), sweeping(valkey.url, other, 60):
        until(lambda: one.begun + other.begun == 1)
        with redis.Redis.from_url(valkey.url) as client:
            until(lambda: client.info("commandstats")["cmdstat_set"]["calls"] >= 2)
            assert 0 < client.ttl("{sweep}:sweep") <= 60
    assert one.begun + other.begun == 1


def test_it_sweeps_again_and_again_and_counts_what_had_been_missed(valkey) -> None:
    rounds = Rounds(found=3)
    before = metrics.sweep_found._value.get()
    with sweeping(valkey.url, rounds, 1.0) as sweep:
        until(lambda: rounds.begun >= 2)
        until(lambda: metrics.sweep_found._value.get() >= before + 6)
        assert sweep.ailment() is None


def test_a_round_that_fails_does_not_end_the_sweep(valkey) -> None:
    rounds = Rounds()
    rounds.error = RuntimeError("the cluster is not there")
    with sweeping(valkey.url, rounds, 1.0) as sweep:
        until(lambda: rounds.begun >= 2)
        assert sweep.ailment() is None


def test_a_round_that_hangs_is_given_up(valkey) -> None:
    rounds = Rounds(gate=True)
    with sweeping(valkey.url, rounds, 1.0, longest=0.1):
        until(lambda: rounds.cancelled >= 2)


def test_a_stop_cancels_the_round_and_does_not_wait_for_it(valkey) -> None:
    rounds = Rounds(gate=True)
    with sweeping(valkey.url, rounds):
        until(lambda: rounds.begun)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert rounds.cancelled == 1


@pytest.mark.must_survive(29)
def test_it_goes_on_when_redis_was_away(own_valkey) -> None:
    rounds = Rounds()
    own_valkey.stop()
    with sweeping(own_valkey.url, rounds, 0.3) as sweep:
        own_valkey.start()
        until(lambda: rounds.begun)
        assert sweep.ailment() is None


@pytest.mark.must_survive(35)
def test_a_sweep_without_an_attempt_for_too_long_is_told(valkey) -> None:
    rounds = Rounds(gate=True)
    with sweeping(valkey.url, rounds, 0.2, longest=3600) as sweep:
        until(lambda: rounds.begun)
        assert sweep.ailment() is None
        sweep._last_attempt -= 3700
        assert "no attempt for" in (sweep.ailment() or "")
    sweep._last_attempt = time.monotonic()


def test_without_a_cluster_the_worker_says_so_in_one_line_and_goes_on(valkey, tmp_path: Path) -> None:
    env = {"KEY_PREFIX": "nocluster", "SWEEP_SECONDS": "1", "HOME": str(tmp_path)}
    with world(valkey.url, "nocluster"), Worker(valkey.url, tmp_path, **env) as worker:
        until(lambda: worker.log.count("sweep failed") >= 2)
        assert worker.get("/livez")[0] == 200
        assert "Traceback" not in worker.log
