"""The order of an evaluation's events, with workers as processes."""

import json
from pathlib import Path

import pytest
from workers import Worker, World, completed, running, tell, world

from jobcast import __version__, wire
from jobcast.service.membership import SCRIPT, Handler, Member, leaving
from tests.conftest import until

SEEN = """
import random

def saw(event):
    time.sleep(random.random() / 50)
    calls.rpush("seen", f"{event.eval_id} {event.status}")

@on("running")
def began(event): saw(event)

@on("completed")
def ended(event): saw(event)
"""
GATED = """
@on("running")
def began(event):
    call("began", event)
    if event.eval_id == "slow": wait_for("gate")

@on("completed")
def ended(event): call("ended", event)
"""


def is_done(redis: World) -> bool:
    return redis.is_done and not redis.client.hgetall(redis.keys.lanes())


@pytest.mark.must_survive(31)
@pytest.mark.must_survive(32)
def test_two_workers_keep_the_order_of_every_evaluation_although_one_is_killed(valkey, tmp_path: Path) -> None:
    env = {"KEY_PREFIX": "order", "TAKEOVER_SECONDS": "1"}
    threads = ("-P", "threads", "-c", "4")
    names = [f"e{n}" for n in range(150)]
    with (
        world(valkey.url, "order") as redis,
        Worker(valkey.url, tmp_path, SEEN, *threads, name="one", **env) as other,
        Worker(valkey.url, tmp_path, SEEN, *threads, name="two", **env) as killed,
    ):
        until(lambda: other.get("/readyz")[0] == 200)
        for half in (names[:75], names[75:]):
            until(lambda: killed.get("/readyz")[0] == 200)
            tell(valkey.url, "order", *(running(name) for name in half), *(completed(name) for name in half))
            until(lambda half=half: redis.client.llen("seen") > len(half) / 2)
            killed.kill()
            killed.start()
        until(lambda: is_done(redis) and killed.get("/readyz")[0] == 200)
        seen = redis.client.lrange("seen", 0, -1)
        for name in names:
            mine = [line.split()[1] for line in seen if line.split()[0] == name]
            assert set(mine) == {"running", "completed"}
            assert mine == sorted(mine, reverse=True), mine
        assert redis.dead == []
        assert not redis.client.keys("*todo*")


def test_a_slow_evaluation_holds_back_its_own_events_and_no_others_whatever_their_number(
    valkey, tmp_path: Path
) -> None:
    env = {"KEY_PREFIX": "slow", "WORKER_PREFETCH": "2"}
    with world(valkey.url, "slow") as redis, Worker(valkey.url, tmp_path, GATED, **env):
        tell(valkey.url, "slow", running("slow"))
        until(lambda: redis.calls == ["began slow running"])
        for _ in range(20):
            add(redis, completed("slow"), redis.keys.events)
        tell(valkey.url, "slow", running("quick"), completed("quick"))
        until(lambda: redis.calls[1:] == ["began quick running", "ended quick completed"])
        redis.open_gate("gate")
        until(lambda: is_done(redis))
        assert redis.calls[3:] == ["ended slow completed"] * 20


def test_a_dead_letter_and_an_entry_set_aside_let_the_next_one_go(valkey, tmp_path: Path) -> None:
    handlers = """
@on("running", max_retries=0)
def began(event): raise RuntimeError("boom")

@on("completed")
def ended(event): call("ended", event)
"""
    with world(valkey.url, "dead") as redis, Worker(valkey.url, tmp_path, handlers, KEY_PREFIX="dead"):
        tell(valkey.url, "dead", running("a"))
        redis.client.xadd(redis.keys.events, {"eval_id": "a", "event": "{no json"})
        add(redis, completed("a"), redis.keys.events)
        until(lambda: is_done(redis))
        assert redis.calls == ["ended a completed"]
        assert [letter["handler"] for letter in redis.dead] == ["my_handlers.began", ""]


def add(redis: World, event: object, stream: str, **fields: str) -> None:
    text = wire.encode(event)  # type: ignore[arg-type]
    said = json.loads(text)
    redis.client.xadd(
        stream, {"id": said["id"], "status": said["status"], "eval_id": said["eval_id"], "event": text, **fields}
    )


def test_a_replay_is_for_the_handler_that_it_names_and_leaves_no_trace(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed")
def score(event): call("score", event)

@on("completed")
def bill(event): call("bill", event)
"""
    with world(valkey.url, "again") as redis, Worker(valkey.url, tmp_path, handlers, KEY_PREFIX="again") as worker:
        for name, handler in (("a", "my_handlers.bill"), ("b", ""), ("c", "my_handlers.gone")):
            add(redis, completed(name), redis.keys.replays, handler=handler, of="1-0")
        add(redis, running("d"), redis.keys.replays, handler="my_handlers.bill", of="")
        until(lambda: len(redis.calls) == 3 and redis.client.xlen(redis.keys.replays) == 0)
        assert sorted(redis.calls) == ["bill a completed", "bill b completed", "score b completed"]
        (letter,) = redis.dead
        assert letter["handler"] == "my_handlers.gone"
        assert "no handler or route has this name" in letter["reason"]
        assert "Traceback" not in worker.log
    assert not [key for pattern in ("*lanes*", "*todo*") for key in redis.client.keys(pattern)]


def test_an_unknown_handlers_replay_is_left_to_another_group_that_knows_it(valkey, tmp_path: Path) -> None:
    with world(valkey.url, "other") as redis, Worker(valkey.url, tmp_path, GATED, KEY_PREFIX="other"):
        route = {"route:shop.invoice@": Handler(("completed",), "worker:shop")}
        other = Member(kind="worker", name="other", version=__version__, handlers=route)
        redis.client.eval(SCRIPT, 1, redis.keys.parts, *leaving(other))
        redis.client.xgroup_create(redis.keys.replays, "worker:shop", "0", mkstream=True)
        add(redis, completed("a"), redis.keys.replays, handler="route:shop.invoice@", of="")
        until(lambda: redis.client.xinfo_groups(redis.keys.replays)[0]["entries-read"] == 1)
        until(lambda: redis.client.xpending(redis.keys.replays, "worker")["pending"] == 0)
        assert redis.dead == []
        assert redis.client.xlen(redis.keys.replays) == 1


def test_order_needs_no_heartbeat_where_workers_share_a_queue(valkey, tmp_path: Path) -> None:
    handlers = SEEN.replace('@on("running")', '@on("running", queue="shared")').replace(
        '@on("completed")', '@on("completed", queue="shared")'
    )
    env = {"KEY_PREFIX": "shared", "TAKEOVER_SECONDS": "86400"}
    names = [f"e{n}" for n in range(25)]
    with (
        world(valkey.url, "shared") as redis,
        Worker(valkey.url, tmp_path, handlers, name="one", **env) as one,
        Worker(valkey.url, tmp_path, handlers, name="two", **env) as two,
    ):
        until(lambda: one.get("/readyz")[0] == two.get("/readyz")[0] == 200)
        tell(valkey.url, "shared", *(running(name) for name in names), *(completed(name) for name in names))
        until(lambda: is_done(redis))
        seen = redis.client.lrange("seen", 0, -1)
        assert len(seen) == 50
        for name in names:
            assert seen.index(f"{name} running") < seen.index(f"{name} completed")


def wait_for_a_beat_of_both(redis: World) -> None:
    """Until every entry that is pending was said to be alive once more."""
    before: dict[str, int] = {}
    beaten: set[str] = set()

    def all_beaten() -> bool:
        pending = redis.client.xpending_range(redis.keys.events, "worker", "-", "+", 1000)
        for item in pending:
            name, idle = item["message_id"], item["time_since_delivered"]
            if idle < before.get(name, 0):
                beaten.add(name)
            before[name] = idle
        return len(beaten) == len(pending)

    until(all_beaten)


def test_a_task_that_another_worker_took_from_a_shared_queue_is_not_handed_out_again_while_it_runs(
    valkey, tmp_path: Path
) -> None:
    handlers = """
@on("completed", queue="shared")
def score(event):
    call("score", event)
    wait_for("gate")
"""
    env = {"KEY_PREFIX": "long", "TAKEOVER_SECONDS": "1"}
    with (
        world(valkey.url, "long") as redis,
        Worker(valkey.url, tmp_path, handlers, "-P", "threads", "-c", "8", name="one", **env) as one,
        Worker(valkey.url, tmp_path, handlers, "-P", "threads", "-c", "8", name="two", **env) as two,
    ):
        until(lambda: one.get("/readyz")[0] == two.get("/readyz")[0] == 200)
        tell(valkey.url, "long", *(completed(name) for name in "abcd"))
        until(lambda: len(redis.calls) == 4)
        for _ in range(4):
            wait_for_a_beat_of_both(redis)
        redis.open_gate("gate")
        until(lambda: is_done(redis))
        assert sorted(redis.calls) == [f"score {name} completed" for name in "abcd"]


def test_a_retry_that_another_worker_may_have_taken_is_waited_for(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed", queue="shared", retry_backoff=600, retry_jitter=False)
def score(event):
    call("score", event)
    raise OSError("not now")
"""
    env = {"KEY_PREFIX": "retry", "TAKEOVER_SECONDS": "1"}
    with (
        world(valkey.url, "retry") as redis,
        Worker(valkey.url, tmp_path, handlers, name="one", **env) as one,
        Worker(valkey.url, tmp_path, handlers, name="two", **env) as two,
    ):
        until(lambda: one.get("/readyz")[0] == two.get("/readyz")[0] == 200)
        tell(valkey.url, "retry", *(completed(name) for name in "abcdefgh"))
        until(lambda: len(redis.calls) == 8)
        for _ in range(4):
            wait_for_a_beat_of_both(redis)
        assert sorted(redis.calls) == [f"score {name} completed" for name in "abcdefgh"]
