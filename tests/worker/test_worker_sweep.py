"""The poll: one worker at a time, now and then, whatever happens to the last round."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
import redis
from workers import Worker, asked, probing, world

from jobcast.redis.connection import connect
from tests.conftest import until
from worker import claim
from worker import sweep as sweep_room
from worker.claim import SweepClaim
from worker.settings import WorkerSettings
from worker.sweep import Round, Sweep


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
    url: str, rounds: Round, every: float = 0.2, *, prefix: str = "sweep", longest: float = 60
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


def test_no_two_pauses_are_the_same_and_none_ends_while_ones_own_last_round_keeps_others_out(valkey) -> None:
    sweep = Sweep(WorkerSettings(redis_url=valkey.url, sweep_seconds=100), "me", Rounds())
    pauses = {sweep._pause() for _ in range(100)}
    assert len(pauses) == 100
    assert 100 * sweep_room.HELD < min(pauses) < 95
    assert 105 < max(pauses) <= 110


def test_it_sweeps_again_and_again_and_says_what_had_been_missed(valkey, caplog) -> None:
    caplog.set_level("INFO")
    rounds = Rounds(found=3)
    with sweeping(valkey.url, rounds) as sweep:
        until(lambda: rounds.begun >= 3)
        assert sweep.unhealthy_reason() is None
    assert {record.count for record in caplog.records} == {3}


@pytest.fixture
def short_life(monkeypatch: pytest.MonkeyPatch) -> float:
    """A claim lapses after half a second."""
    monkeypatch.setattr(claim, "LIFE_SECONDS", 0.5)
    return 0.5


class Attempts(SweepClaim):
    """Counts how often somebody tried to begin a round, and when first."""

    at: ClassVar[list[float]] = []

    async def take(self) -> bool:
        self.at.append(time.monotonic())
        return await super().take()


def test_a_round_longer_than_the_claims_life_keeps_the_others_out(valkey, short_life, monkeypatch) -> None:
    Attempts.at.clear()
    monkeypatch.setattr(sweep_room, "SweepClaim", Attempts)
    one, other = Rounds(gate=True), Rounds(gate=True)
    with sweeping(valkey.url, one, 0.1), sweeping(valkey.url, other, 0.1):
        until(lambda: Attempts.at and Attempts.at[-1] > Attempts.at[0] + 4 * short_life)
        assert one.begun + other.begun == 1


def test_a_worker_that_died_in_the_middle_of_a_round_keeps_the_others_out_for_no_longer_than_its_claim_lives(
    valkey, short_life
) -> None:
    rounds = Rounds()
    with redis.Redis.from_url(valkey.url) as client:
        asyncio.run(_take_and_die(valkey.url))
        assert client.pttl("{sweep}:sweep") != -1  # it has an end, and on a slow machine has had it
        with sweeping(valkey.url, rounds, 0.1):
            until(lambda: rounds.begun)


async def _take_and_die(url: str) -> None:
    client = connect(url)
    assert await SweepClaim(client, "{sweep}:sweep", "dead").take()
    await client.aclose()


def test_a_round_is_given_up_when_another_worker_sweeps(valkey, short_life, caplog) -> None:
    rounds = Rounds(gate=True)
    with redis.Redis.from_url(valkey.url) as client, sweeping(valkey.url, rounds, 0.1):
        until(lambda: rounds.begun)
        client.set("{sweep}:sweep", "somebody else", px=60_000)
        until(lambda: rounds.cancelled)
        until(lambda: "another worker sweeps" in [getattr(record, "error", "") for record in caplog.records])
        assert client.get("{sweep}:sweep") == b"somebody else"


def test_a_redis_that_forgets_the_claim_gets_it_again(valkey, short_life) -> None:
    rounds = Rounds(gate=True)
    with redis.Redis.from_url(valkey.url) as client, sweeping(valkey.url, rounds, 0.1):
        until(lambda: rounds.begun)
        client.flushall()
        until(lambda: client.exists("{sweep}:sweep"))
        assert (rounds.begun, rounds.cancelled) == (1, 0)


def test_after_a_round_that_failed_the_first_that_comes_tries_again(valkey) -> None:
    broken, well = Rounds(), Rounds()
    broken.error = RuntimeError("this one cannot")
    with redis.Redis.from_url(valkey.url) as client:
        with sweeping(valkey.url, broken, 60):
            until(lambda: broken.begun)
        assert not client.exists("{sweep}:sweep")
    with sweeping(valkey.url, well, 60):
        until(lambda: well.begun)


def test_a_round_that_fails_does_not_end_the_sweep(valkey) -> None:
    rounds = Rounds()
    rounds.error = RuntimeError("the cluster is not there")
    with sweeping(valkey.url, rounds, 1.0) as sweep:
        until(lambda: rounds.begun >= 2)
        assert sweep.unhealthy_reason() is None


def test_a_round_that_hangs_is_given_up(valkey) -> None:
    rounds = Rounds(gate=True)
    with sweeping(valkey.url, rounds, 1.0, longest=0.1):
        until(lambda: rounds.cancelled >= 2)


def test_a_stop_cancels_the_round_and_does_not_wait_for_it(valkey) -> None:
    rounds = Rounds(gate=True)
    with sweeping(valkey.url, rounds):
        until(lambda: rounds.begun)
        began = time.monotonic()
    assert time.monotonic() - began < 30  # the round would go on for ever
    assert rounds.cancelled == 1
    with redis.Redis.from_url(valkey.url) as client:
        assert not client.exists("{sweep}:sweep"), "others need not wait"


@pytest.mark.must_survive(29)
def test_it_goes_on_when_redis_was_down(own_valkey) -> None:
    rounds = Rounds()
    own_valkey.stop()
    with sweeping(own_valkey.url, rounds, 0.3) as sweep:
        own_valkey.start()
        until(lambda: rounds.begun)
        assert sweep.unhealthy_reason() is None


@pytest.mark.must_survive(35)
def test_livez_is_false_while_the_sweep_is_stuck_and_true_again_when_it_goes_on(valkey) -> None:
    gate = threading.Event()

    async def stuck() -> int:
        gate.wait()  # what no cancelling ends
        return 0

    with sweeping(valkey.url, stuck, 0.1, longest=0.2) as sweep, probing() as probe:
        probe.check("sweep", sweep.unhealthy_reason)
        try:
            assert asked(probe, "/livez") == (200, "ok\n")
            until(lambda: asked(probe, "/livez")[1].startswith("sweep: no attempt for"))
            gate.set()
            until(lambda: asked(probe, "/livez") == (200, "ok\n"))
        finally:
            gate.set()


def test_without_a_cluster_the_worker_says_so_in_one_line_and_goes_on(valkey, tmp_path: Path) -> None:
    env = {"KEY_PREFIX": "nocluster", "SWEEP_SECONDS": "1", "HOME": str(tmp_path)}
    with world(valkey.url, "nocluster"), Worker(valkey.url, tmp_path, **env) as worker:
        until(lambda: worker.log.count("sweep failed") >= 2)
        assert worker.get("/livez")[0] == 200
        assert "Traceback" not in worker.log
