"""From the stream to handlers, with a worker as a process."""

from pathlib import Path

import pytest
from workers import Worker, completed, running, tell, world

from tests.conftest import until

POOLS = [("-P", "threads", "-c", "2"), ("-P", "solo"), ("-P", "prefork", "-c", "1")]


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool[1])
def test_an_entry_is_acknowledged_only_after_its_handler_has_ended(valkey, tmp_path: Path, pool) -> None:
    handlers = """
@on("completed")
def score(event):
    call("score", event)
    wait_for("gate")
    call("scored", event)
"""
    tell(valkey.url, "evaluation", running("a"), completed("a"))  # before the first start: not missed
    with world(valkey.url, "evaluation") as redis, Worker(valkey.url, tmp_path, handlers, *pool) as worker:
        until(lambda: redis.calls == ["score a completed"])
        assert len(redis.pending) == 1
        redis.open_gate("gate")
        until(lambda: redis.is_done)
        assert redis.calls == ["score a completed", "scored a completed"]
        tell(valkey.url, "evaluation", completed("b"))
        until(lambda: redis.is_done and "scored b completed" in redis.calls)
        # Counted in the parent, whichever process ran it.
        until(lambda: 'jobcast_handler_seconds_count{handler="my_handlers.score"} 2.0' in worker.get("/metrics")[1])
        assert worker.get("/livez") == (200, "ok\n")
        assert not redis.client.keys("*todo*")


@pytest.mark.must_survive(30)
def test_of_two_handlers_only_the_one_that_fails_is_tried_again_and_then_given_up(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed")
def fine(event): call("fine", event)

@on("completed", max_retries=2, retry_backoff=0.1)
def bad(event):
    call("bad", event)
    raise RuntimeError("no score in the output")
"""
    with world(valkey.url, "two") as redis, Worker(valkey.url, tmp_path, handlers, KEY_PREFIX="two") as worker:
        tell(valkey.url, "two", completed("a"))
        until(lambda: redis.is_done)
        assert sorted(redis.calls) == ["bad a completed"] * 3 + ["fine a completed"]
        (letter,) = redis.dead
        assert letter["handler"] == "my_handlers.bad"
        assert letter["reason"] == "RuntimeError: no score in the output"
        assert 'raise RuntimeError("no score in the output")' in letter["traceback"]
        assert letter["tries"] == "3"
        assert '"eval_id":"a"' in letter["event"]
        until(lambda: "jobcast_dead_letters_total 1.0" in worker.get("/metrics")[1])
        assert "Traceback" not in worker.log


@pytest.mark.must_survive(8)
def test_a_malformed_entry_goes_to_the_dead_letters_and_those_behind_it_flow(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed")
def score(event): call("score", event)
"""
    with world(valkey.url, "bad") as redis, Worker(valkey.url, tmp_path, handlers, KEY_PREFIX="bad") as worker:
        malformed = [
            {"other": "field"},
            {"event": "{no json"},
            {"event": '{"status": "paused"}'},
            {"event": b"\xff\xfe"},
        ]
        ids = [redis.client.xadd(redis.keys.events, fields) for fields in malformed]
        tell(valkey.url, "bad", running("a"), completed("a"))
        until(lambda: redis.is_done)
        assert redis.calls == ["score a completed"]
        with world(valkey.url, "bad") as raw:
            raw.client.connection_pool.connection_kwargs["decode_responses"] = False
            letters = raw.client.xrange(redis.keys.dead)
        assert {fields[b"entry"].decode() for _, fields in letters} == set(ids)
        assert all(fields[b"reason"] for _, fields in letters)
        for entry in ids:
            assert len([line for line in worker.log.splitlines() if entry in line]) == 1
        assert "Traceback" not in worker.log


def test_an_event_waits_for_the_earlier_one_of_its_evaluation(valkey, tmp_path: Path) -> None:
    handlers = """
@on("running", retry_backoff=0.1)
def began(event):
    call("began", event)
    if event.eval_id == "a": wait_for("gate")

@on("completed")
def ended(event): call("ended", event)
"""
    with world(valkey.url, "order") as redis, Worker(valkey.url, tmp_path, handlers, KEY_PREFIX="order"):
        tell(valkey.url, "order", running("a"), completed("a"), running("b"), completed("b"))
        until(lambda: "ended b completed" in redis.calls)
        assert redis.calls.index("began b running") < redis.calls.index("ended b completed")
        assert "ended a completed" not in redis.calls
        redis.open_gate("gate")
        until(lambda: redis.is_done)
        assert redis.calls[-1] == "ended a completed"
