"""A Redis that answers and refuses: the worker lives, says what is wrong, and goes on."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from refusals import REFUSALS, Refusing
from workers import GATED, ONE_AT_A_TIME, SCORE, Worker, completed, tell, world

from tests.conftest import until


@pytest.mark.must_survive(27)
@pytest.mark.parametrize("word", REFUSALS)
def test_a_worker_waits_for_a_redis_that_refuses_and_says_why(valkey, own_valkey, tmp_path: Path, word) -> None:
    with (
        world(valkey.url, "evaluation") as calls,
        world(own_valkey.url, "evaluation") as redis,
        ExitStack() as refusing,
    ):
        refusing.enter_context(REFUSALS[word](Refusing(own_valkey)))
        with Worker(own_valkey.url, tmp_path, SCORE, CALLS_URL=valkey.url) as worker:
            until(lambda: worker.get("/readyz")[1].count(word) == 2)  # of redis and of the broker
            assert worker.get("/readyz")[0] == 503
            assert worker.get("/livez") == (200, "ok\n")  # a restart would not heal it
            assert "jobcast_redis_up 0.0" in worker.get("/metrics")[1]
            refusing.close()
            tell(own_valkey.url, "evaluation", completed("a"))
            until(lambda: calls.calls == ["score a completed"] and redis.is_done)
            until(lambda: worker.get("/readyz")[0] == 200)
            assert "jobcast_broker_up 1.0" in worker.get("/metrics")[1]
            assert worker.unreachable("broker") <= 3
        assert "Traceback" not in worker.log
        assert "Unrecoverable" not in worker.log


@pytest.mark.must_survive(27)
@pytest.mark.parametrize("word", REFUSALS)
def test_a_task_that_runs_while_redis_refuses_ends_and_is_acknowledged(valkey, own_valkey, tmp_path, word) -> None:
    refusing = Refusing(own_valkey)
    env = {"CALLS_URL": valkey.url}
    with (
        world(valkey.url, "evaluation") as calls,
        world(own_valkey.url, "evaluation") as redis,
        Worker(own_valkey.url, tmp_path, GATED, *ONE_AT_A_TIME, **env) as worker,
    ):
        tell(own_valkey.url, "evaluation", completed("a"), completed("b"))
        until(lambda: calls.calls == ["score a completed"])
        with REFUSALS[word](refusing):
            if word != "OOM":  # a Redis that is full does all that an idle worker asks
                until(lambda: word in worker.get("/readyz")[1])
            calls.open_gate("gate")
        until(lambda: redis.is_done)
        assert sorted(set(calls.calls)) == ["score a completed", "score b completed"]
        assert "the stream is gone" not in worker.log
        assert "Traceback" not in worker.log


@pytest.mark.must_survive(31)
@pytest.mark.parametrize("word", ["READONLY", "LOADING"])
def test_a_worker_that_is_stopped_while_redis_refuses_ends_in_good_order(own_valkey, tmp_path: Path, word) -> None:
    with (
        REFUSALS[word](Refusing(own_valkey)),
        Worker(own_valkey.url, tmp_path, SCORE, GRACE_SECONDS="10") as worker,
    ):
        until(lambda: worker.get("/readyz")[1].count(word) == 2)
        assert worker.stop() == 0
        assert "grace period is over" not in worker.log
        assert "Traceback" not in worker.log
