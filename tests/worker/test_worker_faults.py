"""What a worker must survive, and what its peers do about it."""

import os
import signal
from pathlib import Path

import pytest
from workers import GATED, ONE_AT_A_TIME, SCORE, Worker, completed, running, tell, world

from tests.conftest import until


@pytest.mark.must_survive(30)
@pytest.mark.must_survive(31)
def test_a_task_whose_worker_was_killed_runs_again_after_the_restart(valkey, tmp_path: Path) -> None:
    with world(valkey.url, "kill") as redis:
        worker = Worker(valkey.url, tmp_path, GATED, "-P", "prefork", "-c", "1", KEY_PREFIX="kill")
        with worker:
            tell(valkey.url, "kill", completed("a"), completed("b"))
            until(lambda: redis.calls == ["score a completed"])
            worker.kill()
        assert len(redis.pending) == 2
        redis.open_gate("gate")
        with worker:
            until(lambda: redis.is_done)
        assert redis.calls.count("score a completed") == 2
        assert redis.calls.count("score b completed") == 1
        assert redis.dead == []


@pytest.mark.must_survive(30)
def test_what_a_dead_worker_held_is_taken_over_by_another(valkey, tmp_path: Path) -> None:
    env = {"KEY_PREFIX": "over", "TAKEOVER_SECONDS": "1"}
    with (
        world(valkey.url, "over") as redis,
        Worker(valkey.url, tmp_path, GATED, *ONE_AT_A_TIME, name="first", **env) as first,
    ):
        tell(valkey.url, "over", completed("a"), completed("b"))
        until(lambda: redis.calls == ["score a completed"] and len(redis.pending) == 2)
        first.kill()
        redis.open_gate("gate")
        with Worker(valkey.url, tmp_path, GATED, name="second", **env):
            until(lambda: redis.is_done)
        assert redis.calls.count("score a completed") == 2
        assert redis.calls.count("score b completed") == 1


@pytest.mark.must_survive(30)
def test_a_worker_that_was_stopped_for_longer_than_a_takeover_loses_nothing_that_another_took_over(
    valkey, tmp_path: Path
) -> None:
    env = {"KEY_PREFIX": "froze", "TAKEOVER_SECONDS": "1"}
    with (
        world(valkey.url, "froze") as redis,
        Worker(valkey.url, tmp_path, GATED, *ONE_AT_A_TIME, name="first", **env) as first,
    ):
        tell(valkey.url, "froze", completed("a"), completed("b"))
        until(lambda: redis.calls == ["score a completed"] and len(redis.pending) == 2)
        assert first.process is not None
        os.kill(first.process.pid, signal.SIGSTOP)
        with Worker(valkey.url, tmp_path, GATED, *ONE_AT_A_TIME, name="second", **env) as second:
            # The second one takes both over, in either order, and is at one of them.
            until(lambda: len(redis.calls) == 2 and redis.holders == {"second@test"})
            os.kill(first.process.pid, signal.SIGCONT)
            until(lambda: redis.holders == {"second@test"} and first.get("/readyz")[0] == 200)
            assert len(redis.pending) == 2  # the awakened one has acknowledged nothing
            redis.open_gate("gate")
            until(lambda: redis.is_done)
            # Who is slow may have what it works on taken over, or be through with it before another begins.
            assert set(redis.calls) == {"score a completed", "score b completed"}
            assert second.get("/livez")[0] == 200


@pytest.mark.must_survive(30)
def test_a_handler_that_kills_its_process_is_given_up_after_some_tries(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed", max_retries=1)
def score(event):
    call("score", event)
    if event.eval_id == "poison": os.kill(os.getpid(), 9)
"""
    with world(valkey.url, "poison") as redis:
        with Worker(valkey.url, tmp_path, handlers, "-P", "prefork", "-c", "1", KEY_PREFIX="poison"):
            tell(valkey.url, "poison", completed("poison"), completed("fine"))
            until(lambda: redis.is_done)
        assert redis.calls.count("score poison completed") == 2
        assert redis.calls.count("score fine completed") == 1
        (letter,) = redis.dead
        assert letter["tries"] == "2"
        assert "died" in letter["reason"]


@pytest.mark.must_survive(30)
def test_a_handler_whose_process_dies_does_not_repeat_another_one_of_the_event_that_runs(
    valkey, tmp_path: Path
) -> None:
    handlers = """
@on("completed")
def slow(event):
    call("slow", event)
    wait_for("gate")

@on("completed")
def dying(event):
    while b"slow a completed" not in calls.lrange("calls", 0, -1):
        time.sleep(0.01)
    call("dying", event)
    if calls.set("once", 1, nx=True): os.kill(os.getpid(), 9)
"""
    with world(valkey.url, "evaluation") as redis:
        with Worker(valkey.url, tmp_path, handlers, "-P", "prefork", "-c", "4"):
            tell(valkey.url, "evaluation", completed("a"))
            until(lambda: redis.calls.count("dying a completed") == 2)
            until(lambda: redis.client.hget(redis.keys.todo(redis.pending[0]), "my_handlers.dying") == "ended")
            redis.open_gate("gate")
            until(lambda: redis.is_done)
        assert redis.calls.count("slow a completed") == 1
        assert not redis.dead


def test_a_handler_that_runs_out_of_time_is_tried_again_and_given_up(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed", max_retries=1, time_limit=1)
def score(event):
    call("score", event)
    time.sleep(60)
"""
    with world(valkey.url, "time") as redis:
        with Worker(valkey.url, tmp_path, handlers, "-P", "prefork", "-c", "1", KEY_PREFIX="time"):
            tell(valkey.url, "time", completed("a"))
            until(lambda: redis.is_done)
        assert redis.calls == ["score a completed"] * 2
        assert len(redis.dead) == 1


@pytest.mark.must_survive(26)
@pytest.mark.must_survive(29)
def test_events_flow_again_after_redis_was_flushed_restarted_and_killed(own_valkey, tmp_path: Path) -> None:
    with Worker(own_valkey.url, tmp_path, SCORE) as worker, world(own_valkey.url, "evaluation") as redis:
        tell(own_valkey.url, "evaluation", completed("a"))
        until(lambda: redis.is_done and len(redis.calls) == 1)
        redis.client.flushall()
        tell(own_valkey.url, "evaluation", completed("b"))
        until(lambda: redis.is_done and redis.calls == ["score b completed"])
        for kill in (False, True):
            told = worker.unreachable("redis")
            own_valkey.stop(kill=kill)
            until(lambda told=told: worker.unreachable("redis") == told + 1)
            assert worker.get("/livez")[0] == 200  # a restart of the worker would not heal it
            own_valkey.start()
            tell(own_valkey.url, "evaluation", completed("c"))
            until(lambda: redis.is_done and redis.calls == ["score c completed"])
        assert "Traceback" not in worker.log


@pytest.mark.must_survive(31)
def test_a_task_that_outlasts_the_grace_period_is_given_up_and_stays_pending(valkey, tmp_path: Path) -> None:
    with world(valkey.url, "grace") as redis:
        env = {"KEY_PREFIX": "grace", "GRACE_SECONDS": "1"}
        with Worker(valkey.url, tmp_path, GATED, "-P", "prefork", "-c", "1", **env) as worker:
            tell(valkey.url, "grace", completed("a"))
            until(lambda: redis.calls == ["score a completed"])
            assert worker.stop() == 1
        assert len(redis.pending) == 1


@pytest.mark.must_survive(31)
@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_second_sigterm_ends_a_worker_at_once(valkey, tmp_path: Path, pool) -> None:
    with (
        world(valkey.url, "second") as redis,
        Worker(valkey.url, tmp_path, GATED, "-P", pool, "-c", "1", KEY_PREFIX="second") as worker,
    ):
        tell(valkey.url, "second", completed("a"))
        until(lambda: redis.calls == ["score a completed"])
        assert worker.process is not None
        worker.process.terminate()
        until(lambda: "Warm shutdown" in worker.log)
        assert worker.stop(5) == 1


@pytest.mark.must_survive(31)
def test_a_worker_that_stops_lets_its_running_task_end(valkey, tmp_path: Path) -> None:
    with (
        world(valkey.url, "warm") as redis,
        Worker(valkey.url, tmp_path, GATED, *ONE_AT_A_TIME, KEY_PREFIX="warm") as worker,
    ):
        tell(valkey.url, "warm", running("a"), completed("a"))
        until(lambda: redis.calls == ["score a completed"])
        assert worker.process is not None
        os.kill(worker.process.pid, signal.SIGTERM)
        until(lambda: "Warm shutdown" in worker.log)
        redis.open_gate("gate")
        assert worker.process.wait(60) == 0
        assert redis.is_done
        assert not redis.client.keys("*tasks:one@test")


@pytest.mark.must_survive(29)
def test_tasks_that_a_broker_of_its_own_lost_are_handed_out_again_and_the_running_one_is_not(
    valkey, own_valkey, tmp_path: Path
) -> None:
    env = {"KEY_PREFIX": "broker", "CELERY_BROKER_URL": own_valkey.url}
    with (
        world(valkey.url, "broker") as redis,
        Worker(valkey.url, tmp_path, GATED, *ONE_AT_A_TIME, **env) as worker,
    ):
        tell(valkey.url, "broker", completed("a"), completed("b"), completed("c"))
        until(lambda: redis.calls == ["score a completed"] and len(redis.pending) == 3)
        own_valkey.stop(kill=True)
        until(lambda: worker.unreachable("broker"))
        own_valkey.start()
        until(lambda: "tasks were lost with the broker" in worker.log)
        redis.open_gate("gate")
        until(lambda: redis.is_done)
        assert sorted(redis.calls) == ["score a completed", "score b completed", "score c completed"]
        assert "Traceback" not in worker.log
        assert "Warning" not in worker.log.partition("ready.")[2]
