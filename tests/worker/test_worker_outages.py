"""Redis and the way to it are lost in the middle of the work: what was begun ends, what waits is handled, once Redis is back."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxied import proxied
from workers import GATED, ONE_AT_A_TIME, Worker, World, completed, tell, world

from testbed.valkey import ValkeyServer
from tests.conftest import until


@contextmanager
def in_the_middle(
    valkey: ValkeyServer, broken: ValkeyServer, folder: Path, *, by: str | None = None, **env: str
) -> Iterator[tuple[Worker, World, World]]:
    """A worker with a task that runs and two that wait; what is in `valkey`, where the calls and the gate are, and in `broken`,
    which is its Redis and broker: at `by`, where something stands in between."""
    url = by or broken.url
    with (
        world(valkey.url, "evaluation") as calls,
        world(broken.url, "evaluation") as redis,
        Worker(url, folder, GATED, *ONE_AT_A_TIME, CALLS_URL=valkey.url, **env) as worker,
    ):
        until(lambda: worker.get("/readyz")[0] == 200)
        tell(url, "evaluation", completed("a"), completed("b"), completed("c"))
        until(lambda: calls.calls == ["score a completed"])
        yield worker, calls, redis
        assert "Traceback" not in worker.log
        assert "Unrecoverable" not in worker.log


def all_are_handled(calls: World, redis: World) -> bool:
    return {"score a completed", "score b completed", "score c completed"} <= set(calls.calls) and redis.is_done


@pytest.mark.must_survive(29)
def test_a_connection_that_is_reset_in_the_middle_of_a_task_costs_no_event_and_no_repetition(
    valkey, own_valkey, tmp_path: Path
) -> None:
    with (
        proxied(own_valkey.port) as proxy,
        in_the_middle(valkey, own_valkey, tmp_path, by=proxy.url) as (worker, calls, redis),
    ):
        proxy.cut()
        until(lambda: worker.reachable_again("broker"))
        calls.open_gate("gate")
        until(lambda: all_are_handled(calls, redis))
        assert Counter(calls.calls).most_common(1)[0][1] == 1
        assert worker.get("/readyz")[0] == 200


@pytest.mark.must_survive(29)
@pytest.mark.must_survive(30)
@pytest.mark.parametrize("restarts", [1, 2])
def test_a_redis_that_is_killed_in_the_middle_of_a_task_and_keeps_its_data_costs_nothing(
    valkey, persistent_valkey, tmp_path: Path, restarts
) -> None:
    with in_the_middle(valkey, persistent_valkey, tmp_path) as (worker, calls, redis):
        for _ in range(restarts):  # the second one before the worker has gathered itself
            persistent_valkey.stop(kill=True)
            persistent_valkey.start()
        calls.open_gate("gate")
        until(lambda: all_are_handled(calls, redis))
        assert calls.calls.count("score a completed") == 1
        until(lambda: worker.get("/readyz")[0] == 200)


@pytest.mark.must_survive(29)
def test_a_redis_that_is_killed_again_and_again_does_not_end_the_worker(
    valkey, persistent_valkey, tmp_path: Path
) -> None:
    with (
        world(valkey.url, "evaluation") as calls,
        world(persistent_valkey.url, "evaluation") as redis,
        Worker(persistent_valkey.url, tmp_path, GATED, CALLS_URL=valkey.url) as worker,
    ):
        tell(persistent_valkey.url, "evaluation", completed("a"))
        until(lambda: calls.calls == ["score a completed"])
        # One task runs and another is waited for: which connection hears first that Redis is gone is left to chance.
        for _ in range(4):
            before = worker.reachable_again("broker")
            persistent_valkey.stop(kill=True)
            persistent_valkey.start()
            until(lambda before=before: worker.reachable_again("broker") > before or worker.process.poll() is not None)
        calls.open_gate("gate")
        until(lambda: redis.is_done)
        assert calls.calls == ["score a completed"]
        assert "Traceback" not in worker.log


@pytest.mark.must_survive(29)
def test_a_task_that_ends_while_redis_is_down_is_acknowledged_when_it_works_again(
    valkey, persistent_valkey, tmp_path: Path
) -> None:
    with in_the_middle(valkey, persistent_valkey, tmp_path) as (worker, calls, redis):
        persistent_valkey.stop(kill=True)
        calls.open_gate("gate")
        until(lambda: worker.unreachable("broker") and worker.unreachable("redis"))
        persistent_valkey.start()
        until(lambda: all_are_handled(calls, redis))
        assert calls.calls.count("score a completed") == 1


@pytest.mark.must_survive(26)
@pytest.mark.must_survive(29)
def test_a_redis_that_restarts_empty_in_the_middle_of_a_task_gets_everything_published_again(
    valkey, own_valkey, tmp_path: Path
) -> None:
    with in_the_middle(valkey, own_valkey, tmp_path) as (worker, calls, redis):
        own_valkey.stop(kill=True)
        own_valkey.start()
        calls.open_gate("gate")
        tell(own_valkey.url, "evaluation", completed("a"), completed("b"), completed("c"))  # as the controller does
        until(lambda: all_are_handled(calls, redis))
        until(lambda: worker.get("/readyz")[0] == 200)


@pytest.mark.must_survive(29)
def test_a_redis_that_hangs_for_a_while_costs_nothing(valkey, own_valkey, tmp_path: Path) -> None:
    with in_the_middle(valkey, own_valkey, tmp_path) as (worker, calls, redis):
        assert own_valkey.process is not None
        os.kill(own_valkey.process.pid, signal.SIGSTOP)
        calls.open_gate("gate")
        until(lambda: "redis: " in worker.get("/readyz")[1])  # after the longest that a command may take
        assert worker.get("/livez")[0] == 200
        os.kill(own_valkey.process.pid, signal.SIGCONT)
        until(lambda: all_are_handled(calls, redis))
        assert calls.calls.count("score a completed") == 1


@pytest.mark.must_survive(25)
def test_entries_whose_reading_was_carried_out_and_its_reply_lost_are_handled(
    valkey, own_valkey, tmp_path: Path
) -> None:
    with (
        proxied(own_valkey.port) as proxy,
        # No heartbeat within the hour that would find them.
        in_the_middle(valkey, own_valkey, tmp_path, by=proxy.url, TAKEOVER_SECONDS="86400") as (_, calls, redis),
    ):
        proxy.lose_reply_to(b"XREAD", always=True)
        until(lambda: proxy.lost > 0)
        given = len(redis.pending)
        tell(own_valkey.url, "evaluation", completed("d"))
        until(lambda: len(redis.pending) > given)
        proxy.lose_no_more()
        calls.open_gate("gate")
        until(lambda: all_are_handled(calls, redis))
        assert Counter(calls.calls)["score d completed"] == 1


@pytest.mark.must_survive(25)
def test_an_acknowledgement_whose_reply_was_lost_does_not_run_the_task_again(
    valkey, own_valkey, tmp_path: Path
) -> None:
    with (
        proxied(own_valkey.port) as proxy,
        in_the_middle(valkey, own_valkey, tmp_path, by=proxy.url) as (_, calls, redis),
    ):
        proxy.lose_reply_to(b"finish")
        calls.open_gate("gate")
        until(lambda: all_are_handled(calls, redis))
        assert proxy.lost == 1
        assert Counter(calls.calls).most_common(1)[0][1] == 1


@pytest.mark.must_survive(26)
def test_after_a_failover_to_a_replica_that_lacks_the_last_entries_everything_published_to_it_is_handled(
    valkey, own_valkey, tmp_path: Path
) -> None:
    with in_the_middle(valkey, own_valkey, tmp_path) as (_, calls, redis):
        redis.client.save()  # this is how far the replica came
        tell(own_valkey.url, "evaluation", completed("d"))
        until(lambda: len(redis.pending) == 4)
        own_valkey.stop(kill=True)
        own_valkey.start()
        assert len(redis.pending) == 3
        calls.open_gate("gate")
        tell(own_valkey.url, "evaluation", completed("d"), completed("e"))
        until(lambda: all_are_handled(calls, redis))
        assert {"score d completed", "score e completed"} <= set(calls.calls)


@pytest.mark.must_survive(26)
def test_a_group_that_stands_beyond_the_end_of_the_stream_loses_nothing(valkey, tmp_path: Path) -> None:
    with world(valkey.url, "evaluation") as redis:
        tell(valkey.url, "evaluation", completed("old"))
        redis.client.xgroup_create(redis.keys.events, "worker", id="99999999999999-0")
        redis.open_gate("gate")
        with Worker(valkey.url, tmp_path, GATED) as worker:
            tell(valkey.url, "evaluation", completed("new"))
            until(lambda: len(redis.calls) == 2 and not redis.pending)
            assert set(redis.calls) == {"score old completed", "score new completed"}
            assert worker.log.count("was beyond the end of the stream") == 1
