"""What a worker announces of its handlers and routes, on a real Valkey."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from workers import Worker

from jobcast.event import Status
from jobcast.keys import Keys
from jobcast.service.membership import KEPT_SECONDS
from tests.conftest import until
from worker.announce import EVERY_SECONDS, Announcer

KEYS = Keys("announce")


@pytest.fixture
def client(valkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


def announce(client, *names: str, group: str = "worker", statuses: frozenset[Status] = frozenset(Status)) -> None:
    targets: Any = [SimpleNamespace(name=name, statuses=statuses) for name in names]
    Announcer(client, KEYS, group, targets).announce()


def known(client) -> dict[str, Any]:
    return {name: json.loads(said) for name, said in client.hgetall(KEYS.handlers).items()}


def test_each_target_says_what_it_wants_in_which_group_and_when(client) -> None:
    announce(client, "mine.score", statuses=frozenset({Status.FAILED, Status.COMPLETED}))
    announce(client, "route:shop.pay@bills", group="worker:shop", statuses=frozenset({Status.FAILED}))
    told = known(client)
    assert told["mine.score"].pop("seen") == pytest.approx(time.time(), abs=5)
    assert told["mine.score"] == {"statuses": ["completed", "failed"], "group": "worker"}
    assert told["route:shop.pay@bills"]["group"] == "worker:shop"
    assert 0 < client.ttl(KEYS.handlers) <= KEPT_SECONDS


def test_what_was_not_announced_for_a_day_and_what_strangers_left_goes(client) -> None:
    now = int(time.time())
    client.hset(KEYS.handlers, "yesterday", json.dumps({"seen": now - KEPT_SECONDS - 60}))
    client.hset(KEYS.handlers, "today", json.dumps({"seen": now - KEPT_SECONDS + 60}))
    for index, rubbish in enumerate(("", "{", "[]", "1", '{"seen": []}', "null")):
        client.hset(KEYS.handlers, f"stranger-{index}", rubbish)
    announce(client, "mine.score")
    assert sorted(known(client)) == ["mine.score", "today"]


def test_a_key_of_another_type_is_replaced(client) -> None:
    client.set(KEYS.handlers, "a stranger's")
    announce(client, "mine.score")
    assert list(known(client)) == ["mine.score"]


def test_a_redis_that_refuses_it_holds_up_nothing(client, caplog) -> None:
    client.config_set("maxmemory", 1)
    try:
        announce(client, "mine.score")
    finally:
        client.config_set("maxmemory", 0)
    assert "could not announce the handlers" in caplog.text


def test_it_is_said_again_after_a_while_and_not_before(client, monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr("worker.announce.time.monotonic", lambda: now)
    announcer = Announcer(client, KEYS, "worker", [SimpleNamespace(name="a", statuses=frozenset(Status))])  # type: ignore[list-item]
    announcer.announce()
    client.flushall()
    now += EVERY_SECONDS - 0.1
    announcer.announce()
    assert not known(client)
    now += 0.2
    announcer.announce()
    assert known(client)


def test_a_worker_announces_its_handlers_and_routes(valkey, client, tmp_path: Path) -> None:
    soon = "import worker.announce\nworker.announce.EVERY_SECONDS = 0.2\n"
    handler = soon + "@on('failed')\ndef score(event):\n    pass\n"
    # Heartbeats of four hours: who is to name a handler cannot wait for the next.
    options = {"KEY_PREFIX": KEYS.prefix, "ROUTES": "completed=shop.pay@bills", "TAKEOVER_SECONDS": "86400"}
    with Worker(valkey.url, tmp_path, handler, **options):
        until(lambda: known(client))
        client.delete(KEYS.handlers)
        told = until(lambda: known(client))
    assert {name: said["statuses"] for name, said in told.items()} == {
        "my_handlers.score": ["failed"],
        "route:shop.pay@bills": ["completed"],
    }
