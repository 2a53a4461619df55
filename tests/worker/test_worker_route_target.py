"""Events go to existing Celery apps on brokers of their own, which may be down or refuse."""

import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from amqp.exceptions import (
    AccessRefused,
    ChannelError,
    ConnectionForced,
    InternalError,
    MessageNacked,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)
from msgspec import structs
from workers import ROOT, SCORE, Worker, World, completed, running, tell, world

from jobcast.event import Completed, JobRef, event_id
from testbed.ports import free_port
from testbed.valkey import ValkeyServer
from tests.conftest import until
from worker.app import configuration
from worker.broker import of_route, sending_options
from worker.route_target import NO_ROUTE, Refused, RouteBroker, Unreachable, traceparent
from worker.settings import WorkerSettings

EXAMPLE = ROOT / "examples" / "existing-celery-app"
ROUTES = """
- {task: shop.invoice, queue: billing, broker: "${SHOP_BROKER_URL}", statuses: [running, completed]}
- {task: audit.note, queue: audit, statuses: completed, labels: {pipeline: nightly}, priority: 3}
"""
NOTHING_LEFT = {"worker": 0, "worker:SHOP_BROKER_URL": 0}


@contextmanager
def shop(broker: str, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The example, in a process that cannot import Jobcast."""
    command = [
        sys.executable,
        "-c",
        "import sys; sys.modules['jobcast'] = None; from celery.__main__ import main; main()",
    ]
    with (folder / "shop.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-A", "shop", "worker", "-P", "solo", "-Q", "billing", "-l", "info", "--without-mingle"],
            cwd=EXAMPLE,
            env={**os.environ, "SHOP_BROKER_URL": broker, "SHOP_RESULT_BACKEND": broker},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def worker(ours: str, theirs: str, folder: Path, *, name: str = "one", prefix: str) -> Worker:
    (folder / "routes.yaml").write_text(ROUTES)
    env = {"ROUTES_FILE": str(folder / "routes.yaml"), "SHOP_BROKER_URL": theirs, "KEY_PREFIX": prefix}
    return Worker(ours, folder, SCORE, name=name, **env)


def job(name: str) -> Completed:
    """Of a Job with an uid as Kubernetes gives them."""
    uid = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
    return structs.replace(completed(name), id=event_id(uid, "completed", ""), job=JobRef("default", name, uid))


def lags(of: World) -> dict[str, int]:
    groups = of.client.xinfo_groups(of.keys.events)
    return {group["name"]: group["lag"] + group["pending"] for group in groups}


def sent(server: ValkeyServer, queue: str) -> list[dict[str, Any]]:
    """Messages in a queue, the first one first."""
    with redis.Redis(port=server.port) as client:
        messages = [json.loads(message) for message in reversed(client.lrange(queue, 0, -1))]
    return [{**message, "body": json.loads(base64.b64decode(message["body"]))} for message in messages]


def test_an_app_that_knows_nothing_of_jobcast_is_sent_one_task_an_event(valkey, own_valkey, tmp_path: Path) -> None:
    event = job("a")
    (tmp_path / "routes.yaml").write_text((EXAMPLE / "routes.yaml").read_text())
    env = {"ROUTES_FILE": str(tmp_path / "routes.yaml"), "SHOP_BROKER_URL": own_valkey.url, "KEY_PREFIX": "example"}
    with (
        world(own_valkey.url, "theirs") as theirs,
        world(valkey.url, "example") as ours,
        shop(own_valkey.url, tmp_path),
        Worker(valkey.url, tmp_path, **env),
    ):
        tell(valkey.url, "example", running("a"), event)
        key = f"celery-task-meta-{event.id}:shop.invoice"
        until(lambda: theirs.client.exists(key))
        # Told again, as after a loss of Redis: the same event, the same task.
        ours.client.xadd(ours.keys.events, ours.client.xrevrange(ours.keys.events)[0][1])
        until(lambda: lags(ours) == NOTHING_LEFT)
        until(lambda: (tmp_path / "shop.log").read_text().count("succeeded") == 2)
        assert theirs.client.keys("celery-task-meta-*") == [key]
        result = json.loads(theirs.client.get(key))
        assert result["status"] == "SUCCESS"
        assert result["result"] == {
            "evaluation": "a",
            "seconds": 1.0,
            "event": event.id,
            "trace": f"00-{event.job.uid.replace('-', '')}-{event.id.replace('-', '')[:16]}-01",
        }


def test_a_message_is_json_and_says_whose_event_it_is(valkey, own_valkey, tmp_path: Path) -> None:
    event = structs.replace(job("a"), metadata={"job_name": "a", "pipeline": "nightly"})
    with world(valkey.url, "message") as ours, worker(valkey.url, own_valkey.url, tmp_path, prefix="message"):
        tell(valkey.url, "message", event)
        until(lambda: lags(ours) == NOTHING_LEFT)
    (message,) = sent(own_valkey, "billing")
    assert (message["content-type"], message["content-encoding"]) == ("application/json", "utf-8")
    headers = message["headers"]
    assert (headers["task"], headers["id"]) == ("shop.invoice", f"{event.id}:shop.invoice")
    assert (headers["jobcast_event_id"], headers["jobcast_eval_id"]) == (event.id, "a")
    assert headers["traceparent"] == traceparent(event.job.uid, event.id)
    assert "42" not in headers["argsrepr"]  # of its output
    (argument,), _, _ = message["body"]
    assert argument["job"]["uid"] == event.job.uid
    (message,) = sent(valkey, "audit\x06\x163")
    assert (message["headers"]["task"], message["properties"]["priority"]) == ("audit.note", 3)


def test_a_broker_that_is_down_costs_only_its_own_routes_and_gets_all_in_order_once_it_works_again(
    valkey, own_valkey, tmp_path: Path
) -> None:
    own_valkey.stop(kill=True)
    with (
        world(valkey.url, "down") as ours,
        worker(valkey.url, own_valkey.url, tmp_path, prefix="down") as one,
        worker(valkey.url, own_valkey.url, tmp_path, prefix="down", name="two") as two,
    ):
        names = [f"e{number}" for number in range(20)]
        tell(valkey.url, "down", *(event for name in names for event in (running(name), completed(name))))
        until(lambda: len(ours.calls) == len(names))
        until(lambda: lags(ours) == {"worker": 0, "worker:SHOP_BROKER_URL": 40})
        # One of them may have read all of it.
        sender = until(lambda: next((it for it in (one, two) if it.unreachable("broker SHOP_BROKER_URL")), None))
        assert sender.get("/readyz")[0] == 200
        assert 'jobcast_route_broker_up{broker="SHOP_BROKER_URL"} 0.0' in sender.get("/metrics")[1]
        own_valkey.start()
        until(lambda: lags(ours) == NOTHING_LEFT)
        told = [(m["headers"]["jobcast_eval_id"], m["body"][0][0]["status"]) for m in sent(own_valkey, "billing")]
        assert [event for event in told if event[0] == "e7"] == [("e7", "running"), ("e7", "completed")]
        assert sorted(told) == sorted((name, status) for name in names for status in ("running", "completed"))
        assert all(told.index((name, "running")) < told.index((name, "completed")) for name in names)
        assert ours.dead == []
        assert not one.unreachable("redis") + two.unreachable("redis")


def test_what_a_broker_refuses_for_good_is_a_dead_letter_and_those_behind_it_go_on(
    valkey, own_valkey, tmp_path: Path
) -> None:
    with (
        world(valkey.url, "refused") as ours,
        redis.Redis(port=own_valkey.port) as theirs,
        worker(valkey.url, own_valkey.url, tmp_path, prefix="refused"),
    ):
        theirs.set("billing", "no list")
        tell(valkey.url, "refused", completed("a"))
        until(lambda: len(ours.dead) == 1)
        theirs.delete("billing")
        tell(valkey.url, "refused", completed("b"))
        until(lambda: lags(ours) == NOTHING_LEFT)
        (letter,) = ours.dead
        assert letter["handler"] == "route:shop.invoice@billing@SHOP_BROKER_URL"
        assert letter["reason"].startswith("the broker refuses it: ResponseError: WRONGTYPE")
        assert [message["headers"]["jobcast_eval_id"] for message in sent(own_valkey, "billing")] == ["b"]
        assert sorted(ours.calls) == ["score a completed", "score b completed"]


def test_an_entry_that_no_process_can_read_is_one_dead_letter_however_many_groups_there_are(
    valkey, own_valkey, tmp_path: Path
) -> None:
    with (
        world(valkey.url, "malformed") as ours,
        worker(valkey.url, own_valkey.url, tmp_path, prefix="malformed"),
    ):
        ours.client.xadd(ours.keys.events, {"event": "{no json"})
        tell(valkey.url, "malformed", completed("a"))
        until(lambda: lags(ours) == NOTHING_LEFT)
        (letter,) = ours.dead
        assert letter["handler"] == ""
        assert [message["headers"]["jobcast_eval_id"] for message in sent(own_valkey, "billing")] == ["a"]


def test_a_traceparent_is_of_the_job_and_the_event() -> None:
    uid, event = "5d9c8b5e-0A1f-4c43-9d9e-6b1d6c1f2a3b", "0a6a0e4c-93a6-5d11-8a55-1d3f5b7c9e01"
    assert traceparent(uid, event) == "00-5d9c8b5e0a1f4c439d9e6b1d6c1f2a3b-0a6a0e4c93a65d11-01"


@pytest.mark.parametrize("text", ["somebody's", "0" * 32, "", "5d9c8b5e", "5d9c8b5e-0a1f-4c43-9d9e-6b1d6c1f2a3\n"])
def test_a_traceparent_is_valid_and_the_same_each_time_whatever_the_ids_are(text) -> None:
    made = traceparent(text, text)
    version, trace, span, flags = made.split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    assert int(trace, 16)
    assert int(span, 16)
    assert made == traceparent(text, text)


@pytest.mark.parametrize(
    ("error", "is_for_good"),
    [
        (NotFound("no exchange"), True),
        (PreconditionFailed("message size 30660 is larger than configured max size 20000"), True),
        (AccessRefused("write access to exchange"), True),
        (ChannelError("NO_ROUTE", reply_code=NO_ROUTE), True),
        (TypeError("not JSON"), True),
        (MessageNacked(), False),
        (ResourceLocked("a queue of somebody's"), False),
        (ConnectionForced("shutting down"), False),
        (InternalError("it broke"), False),
        (ConnectionResetError(), False),
        (TimeoutError("timed out"), False),
    ],
)
def test_what_rabbitmq_refuses_for_good_is_distinguished_from_what_passes(error, is_for_good) -> None:
    broker = RouteBroker("rabbit", of_route("amqp://nowhere.invalid"))
    broker._producer = Failing(error)  # type: ignore[assignment]
    with pytest.raises(Refused if is_for_good else Unreachable):
        broker.send("billing", {})
    assert broker._producer is None  # AMQP closes the channel with a refusal


def test_a_queue_that_is_not_there_is_named() -> None:
    broker = RouteBroker("rabbit", of_route("amqp://nowhere.invalid"))
    broker._producer = Failing(ChannelError("NO_ROUTE", reply_code=NO_ROUTE))  # type: ignore[assignment]
    with pytest.raises(Refused, match="the broker has no queue 'billing'"):
        broker.send("billing", {})


class Failing:
    """A producer that was connected, and is told this."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def publish(self, *_: object, **__: object) -> None:
        raise self._error


def test_a_broker_that_is_down_is_not_asked_again_at_once(monkeypatch) -> None:
    monkeypatch.setattr("worker.route_target.time", SimpleNamespace(monotonic=lambda: 1000.0))
    broker = RouteBroker("closed", of_route(f"redis://127.0.0.1:{free_port()}"))
    with pytest.raises(Unreachable, match="Connection refused"):
        broker.send("billing", {})
    monkeypatch.setattr(broker, "_connection", None)  # it would be an AttributeError to ask it
    with pytest.raises(Unreachable, match="Connection refused"):
        broker.send("billing", {})


def test_every_message_to_rabbitmq_is_confirmed_and_no_wait_for_it_is_without_end(monkeypatch) -> None:
    options = sending_options(of_route("amqps://user:pw@rabbit//"))
    assert options["confirm_publish"] is True
    assert 0 < options["read_timeout"] <= 10
    assert 0 < options["write_timeout"] <= 10
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://rabbit")
    assert configuration(WorkerSettings())["broker_transport_options"] == {"confirm_publish": True}
