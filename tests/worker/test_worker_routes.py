"""An existing Celery app, which knows nothing of Jobcast, is sent tasks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers import Worker, completed, running, tell, world

from tests.conftest import until

SHOP = """
import os, sys
import redis
from celery import Celery

app = Celery("shop", broker=os.environ["BROKER"])
calls = redis.Redis.from_url(os.environ["BROKER"])

@app.task(name="shop.invoice")
def invoice(event):
    assert "jobcast" not in sys.modules
    calls.rpush("calls", f"invoice {event['eval_id']} {event['status']} {event['exit_code']}")

@app.task(name="shop.note")
def note(event):
    calls.rpush("calls", f"note {event['eval_id']} {event['status']}")
"""


@contextmanager
def shop(url: str, folder: Path) -> Iterator[None]:
    (folder / "shop.py").write_text(SHOP)
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-P", "solo", "-Q", "billing,celery"]
    with (folder / "shop.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--without-mingle", "--without-gossip"],
            cwd=folder,
            env={**os.environ, "BROKER": url},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def test_events_are_routed_to_tasks_of_an_existing_app_by_name_and_queue(valkey, tmp_path: Path) -> None:
    handlers = """
@on("completed")
def score(event): call("score", event)
"""
    routes = "completed=shop.invoice@billing,running|completed=shop.note"
    with (
        world(valkey.url, "routes") as redis,
        shop(valkey.url, tmp_path),
        Worker(valkey.url, tmp_path, handlers, KEY_PREFIX="routes", ROUTES=routes),
    ):
        tell(valkey.url, "routes", running("a"), completed("a"))
        until(lambda: len(redis.calls) == 4)
        until(lambda: redis.is_done)
        assert sorted(redis.calls) == [
            "invoice a completed 0",
            "note a completed",
            "note a running",
            "score a completed",
        ]
        assert not redis.client.keys("*todo*")


def test_an_event_that_no_handler_wants_is_acknowledged_at_once(valkey, tmp_path: Path) -> None:
    with (
        world(valkey.url, "unwanted") as redis,
        Worker(valkey.url, tmp_path, KEY_PREFIX="unwanted") as worker,
    ):
        tell(valkey.url, "unwanted", running("a"), completed("a"))
        until(lambda: redis.is_done)
        assert "no handlers and no routes" in worker.log


def test_a_handler_with_a_queue_of_its_own_is_served_too_and_its_end_is_noticed(valkey, tmp_path: Path) -> None:
    handlers = """
@on("running", queue="heavy")
def began(event): call("began", event)

@on("completed")
def score(event): call("score", event)
"""
    env = {"KEY_PREFIX": "queues", "TAKEOVER_SECONDS": "2"}
    with (
        world(valkey.url, "queues") as redis,
        Worker(valkey.url, tmp_path, handlers, "-P", "solo", "-Q", "light", name="light", **env),
        Worker(valkey.url, tmp_path, handlers, "-P", "solo", "-Q", "heavy", name="heavy", **env),
    ):
        for number in range(10):
            tell(valkey.url, "queues", running(f"e{number}"), completed(f"e{number}"))
        until(lambda: redis.is_done)
        assert sorted(redis.calls) == sorted(
            line for n in range(10) for line in (f"began e{n} running", f"score e{n} completed")
        )
