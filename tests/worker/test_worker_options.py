"""What `@on(...)` is given, end to end: filters, and Celery's options."""

import json
from pathlib import Path

from msgspec import structs
from workers import Worker, completed, running, tell, world

from jobcast.event import JobRef
from tests.conftest import until

ONE_AT_A_TIME = ("-P", "threads", "-c", "1")


def test_a_handler_is_called_with_what_its_filters_let_through(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed", labels={"team": ["a", "b"]}, namespace="evals", pipeline="nightly", acks_late=True)
def score(event): call("score", event)
"""
    wanted = structs.replace(
        completed("wanted"),
        metadata={"job_name": "wanted", "team": "b", "pipeline": "nightly"},
        job=JobRef("evals", "wanted", "uid-wanted"),
    )
    others = [
        structs.replace(wanted, id="1", metadata={"team": "c", "pipeline": "nightly"}),
        structs.replace(wanted, id="2", metadata={"team": "a"}),
        structs.replace(wanted, id="3", job=JobRef("other", "wanted", "uid-other")),
        structs.replace(running("wanted"), id="4", metadata=wanted.metadata, job=wanted.job),
    ]
    env = {"KEY_PREFIX": "filters", "METADATA_LABELS": "team,pipeline"}
    with world(valkey.url, "filters") as redis, Worker(valkey.url, tmp_path, handlers, **env):
        for event in (*others, wanted):
            fields = {"id": event.id, "status": event.status, "eval_id": event.eval_id}
            redis.client.xadd(redis.keys.events, {**fields, "event": encoded(event)})
        until(lambda: redis.is_done)
        assert redis.calls == ["score wanted completed"]


def encoded(event: object) -> bytes:
    from jobcast import wire

    return wire.encode(event)  # type: ignore[arg-type]


def test_of_tasks_that_wait_the_one_with_the_first_priority_comes_first(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed", priority=9)
def score(event):
    call("score", event)
    if event.eval_id == "a": wait_for("gate")

@on("running", priority=0)
def began(event): call("began", event)
"""
    with (
        world(valkey.url, "priority") as redis,
        Worker(valkey.url, tmp_path, handlers, *ONE_AT_A_TIME, KEY_PREFIX="priority"),
    ):
        tell(valkey.url, "priority", completed("a"))
        until(lambda: redis.calls == ["score a completed"])
        tell(valkey.url, "priority", completed("b"))
        tell(valkey.url, "priority", running("c"))
        until(lambda: sum(redis.client.llen(key) for key in redis.client.keys("*tasks:one@test*")) == 2)
        redis.open_gate("gate")
        until(lambda: redis.is_done)
        assert redis.calls == ["score a completed", "began c running", "score b completed"]


def test_a_rate_limit_holds_up_its_own_handler_and_no_other(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed", rate_limit="1/h")
def seldom(event): call("seldom", event)

@on("completed")
def score(event): call("score", event)
"""
    with world(valkey.url, "rate") as redis, Worker(valkey.url, tmp_path, handlers, KEY_PREFIX="rate") as worker:
        tell(valkey.url, "rate", completed("a"), completed("b"), completed("c"))
        until(lambda: len([line for line in redis.calls if line.startswith("score")]) == 3)
        until(lambda: len(redis.pending) == 2)
        assert len([line for line in redis.calls if line.startswith("seldom")]) == 1
        assert worker.stop() == 0
        assert len(redis.pending) == 2


def test_a_soft_time_limit_is_raised_in_the_handler_which_may_end_in_good_order(valkey, tmp_path: Path) -> None:
    handlers = """
from celery.exceptions import SoftTimeLimitExceeded

@on("completed", soft_time_limit=0.2, time_limit=60)
def neat(event):
    try:
        wait_for("never")
    except SoftTimeLimitExceeded:
        call("neat", event)

@on("completed", soft_time_limit=0.2, max_retries=0)
def score(event):
    wait_for("never")
"""
    with (
        world(valkey.url, "soft") as redis,
        Worker(valkey.url, tmp_path, handlers, "-P", "prefork", "-c", "2", KEY_PREFIX="soft"),
    ):
        tell(valkey.url, "soft", completed("a"))
        until(lambda: redis.is_done)
        assert redis.calls == ["neat a completed"]
        (letter,) = redis.dead
        assert letter["handler"] == "my_handlers.score"
        assert letter["reason"].startswith("SoftTimeLimitExceeded")


def test_fields_of_a_later_version_are_ignored(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed")
def score(event): call("score", event)
"""
    with world(valkey.url, "later") as redis, Worker(valkey.url, tmp_path, handlers, KEY_PREFIX="later"):
        later = {**json.loads(encoded(completed("a"))), "colour": "red", "log": {"state": "complete", "of": "later"}}
        redis.client.xadd(redis.keys.events, {"event": json.dumps(later), "version": "2"})
        until(lambda: redis.is_done)
        assert redis.calls == ["score a completed"]
        assert redis.dead == []
