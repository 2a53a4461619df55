"""Celery's sharp edges: its own signals, limits, events and commands, with tasks that no broker has carried."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from workers import Worker, completed, tell, world

from tests.conftest import until

PREFORK = ("-P", "prefork", "-c", "2")
HANDLER = '@on("completed")\ndef score(event): call("score", event)\n'
WAITING = """
@on("completed")
def score(event):
    call("begun", event)
    wait_for("gate")
    call("ended", event)
"""


@pytest.mark.parametrize("option", ["--max-tasks-per-child=3", "--max-memory-per-child=1"])
def test_processes_that_are_renewed_cost_no_event(valkey, tmp_path: Path, option: str) -> None:
    names = [f"e{number}" for number in range(20)]
    with world(valkey.url, "evaluation") as redis, Worker(valkey.url, tmp_path, HANDLER, *PREFORK, option):
        tell(valkey.url, "evaluation", *map(completed, names))
        until(lambda: redis.is_done)
        assert sorted(redis.calls) == sorted(f"score {name} completed" for name in names)
        assert not redis.dead


def test_a_process_that_is_out_of_memory_costs_its_own_event_one_try(valkey, tmp_path: Path) -> None:
    # As the kernel does it: nobody is asked.
    handlers = """
import signal

@on("completed")
def score(event):
    call("score", event)
    if event.eval_id == "big" and redis.Redis.from_url(os.environ["CALLS_URL"]).set("once", 1, nx=True):
        os.kill(os.getpid(), signal.SIGKILL)
"""
    names = ["a", "big", "b", "c"]
    with world(valkey.url, "evaluation") as redis, Worker(valkey.url, tmp_path, handlers, *PREFORK):
        tell(valkey.url, "evaluation", *map(completed, names))
        until(lambda: redis.is_done)
        assert redis.calls.count("score big completed") == 2
        assert {call.split()[1] for call in redis.calls} == set(names)
        assert not redis.dead


def test_a_memory_error_is_a_failure_like_another(valkey, tmp_path: Path) -> None:
    handlers = '@on("completed", max_retries=0)\ndef score(event): raise MemoryError("too big")\n'
    with world(valkey.url, "evaluation") as redis, Worker(valkey.url, tmp_path, handlers, *PREFORK) as worker:
        tell(valkey.url, "evaluation", completed("a"), completed("b"))
        until(lambda: redis.is_done)
        assert [letter["reason"] for letter in redis.dead] == ["MemoryError: too big"] * 2
        assert worker.get("/livez")[0] == 200


def test_a_cold_shutdown_gives_the_running_task_to_the_next_worker(valkey, tmp_path: Path) -> None:
    with world(valkey.url, "evaluation") as redis:
        with Worker(valkey.url, tmp_path, WAITING, *PREFORK) as worker:
            tell(valkey.url, "evaluation", completed("a"))
            until(lambda: redis.calls == ["begun a completed"])
            assert worker.process is not None
            worker.process.send_signal(signal.SIGQUIT)
            worker.process.wait(60)
        assert len(redis.pending) == 1
        redis.open_gate("gate")
        with Worker(valkey.url, tmp_path, WAITING, *PREFORK):
            until(lambda: redis.is_done)
        assert redis.calls == ["begun a completed", "begun a completed", "ended a completed"]


def test_the_visibility_timeout_of_a_broker_runs_no_task_twice(valkey, tmp_path: Path) -> None:
    hasty = "import worker.app\nworker.app.VISIBILITY_SECONDS = 1\n"
    with world(valkey.url, "evaluation") as redis, Worker(valkey.url, tmp_path, hasty + WAITING) as worker:
        tell(valkey.url, "evaluation", completed("a"))
        until(lambda: redis.calls == ["begun a completed"])
        begun = time.monotonic()
        until(lambda: time.monotonic() > begun + 2 and worker.get("/livez")[0] == 200)
        redis.open_gate("gate")
        until(lambda: redis.is_done)
        assert redis.calls == ["begun a completed", "ended a completed"]


def test_celerys_events_show_every_task_as_they_always_do(valkey, tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    with (
        world(valkey.url, "evaluation") as redis,
        Celery(broker=valkey.url, set_as_current=False) as app,
        Worker(valkey.url, tmp_path, HANDLER, *PREFORK, "-E") as worker,
        app.connection_for_read() as connection,
    ):
        receiver = app.events.Receiver(connection, handlers={"*": heard.append})
        listening = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": 60})
        listening.start()
        until(lambda: worker.get("/readyz")[0] == 200)
        until(lambda: any(event["type"] == "worker-heartbeat" for event in heard))
        tell(valkey.url, "evaluation", completed("a"))
        until(lambda: redis.is_done)
        until(lambda: any(event["type"] == "task-succeeded" for event in heard))
        receiver.should_stop = True
        listening.join()
    of_tasks = [event for event in heard if event["type"].startswith("task-")]
    assert [event["type"] for event in of_tasks] == ["task-received", "task-started", "task-succeeded"]
    assert of_tasks[0]["name"] == "my_handlers.score"
    assert len({event["uuid"] for event in of_tasks}) == 1
    assert of_tasks[0]["args"].endswith("…)"), "the event itself is nobody's business there"


def test_celerys_commands_see_and_end_its_tasks(valkey, tmp_path: Path) -> None:
    with (
        world(valkey.url, "evaluation") as redis,
        Celery(broker=valkey.url, set_as_current=False) as app,
        Worker(valkey.url, tmp_path, WAITING, *PREFORK),
    ):
        tell(valkey.url, "evaluation", completed("a"), completed("b"))
        until(lambda: len(redis.calls) == 2)
        control = app.control
        assert control.inspect().ping() == {"one@test": {"ok": "pong"}}
        active = (control.inspect().active() or {})["one@test"]
        assert {task["name"] for task in active} == {"my_handlers.score"}
        control.revoke(active[0]["id"], terminate=True, signal="KILL")
        until(lambda: len(redis.dead) == 1)
        assert redis.dead[0]["reason"] == "its task was revoked"
        redis.open_gate("gate")
        until(lambda: redis.is_done)
        assert sum(call.startswith("ended") for call in redis.calls) == 1
