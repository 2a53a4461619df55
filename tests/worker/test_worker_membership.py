"""A worker registers itself and what it serves under its prefix, and warns of members that conflict with it."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from workers import ServedProbes, Worker, asked, probing, world

from jobcast import __version__
from jobcast.keys import Keys
from jobcast.redis.connection import connect_plain
from jobcast.service import registration
from jobcast.service.membership import KEPT_SECONDS, SCRIPT, WORKER, Handler, Member, decode_members, joining, leaving
from jobcast.service.registration import ThreadRegistration
from testbed.valkey import ValkeyServer
from tests.conftest import until

KEY = Keys("near").parts
OURS = Member(kind=WORKER, name="worker@here", version=__version__)
SERVING = Member(kind=WORKER, name="w", version="1", handlers={"mine.score": Handler(("failed",), "worker")})


@pytest.fixture
def probes() -> Iterator[ServedProbes]:
    with probing() as probes:
        yield probes


@pytest.fixture
def client(valkey: ValkeyServer) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


def registered(valkey: ValkeyServer, probes: ServedProbes, member: Member = OURS, **more: Any) -> ThreadRegistration:
    made = ThreadRegistration(connect_plain(valkey.url, prefix="near"), KEY, member, probes.membership, **more)
    made.start()
    return made


def join(client: "redis.Redis", member: Member = SERVING) -> Any:
    return client.eval(SCRIPT, 1, KEY, *joining(member))


def test_a_newer_controller_is_a_warning_everywhere_once_and_makes_no_worker_unready(
    valkey: ValkeyServer, probes: ServedProbes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(registration, "EVERY_SECONDS", 0.02)
    ours = registered(valkey, probes)
    newer = Member(kind="controller", name="c", version="99.0.0", namespaces=("evals",), selector="app=evaluation")
    with world(valkey.url, "near") as it:
        until(lambda: "worker worker@here" in asked(probes, "/statusz")[1])
        assert asked(probes, "/readyz")[1] == "ok\n"
        it.client.eval(SCRIPT, 1, KEY, *joining(newer))
        until(
            lambda: asked(probes, "/readyz")[1].startswith(
                f"ok\nwarning: an older worker ({__version__}, worker@here) runs"
            )
        )
        assert "newer controller (99.0.0, c)" in json.loads(asked(probes, "/statusz")[1])["warnings"][0]
        it.client.eval(SCRIPT, 1, KEY, *leaving(newer))
        until(lambda: asked(probes, "/readyz")[1] == "ok\n")
        ours.stop()
        assert not it.client.exists(KEY)
    assert caplog.messages == [
        "conflicting Jobcast instances share this prefix",
        "conflict between Jobcast instances resolved",
    ]


def test_a_member_is_registered_before_its_cluster_is_found(valkey: ValkeyServer, probes: ServedProbes, client) -> None:
    def complete(member: Member) -> Member:
        until(lambda: client.hexists(KEY, OURS.field))
        return msgspec.structs.replace(member, namespaces=("evals",), selector="app=evaluation")

    ours = registered(valkey, probes, complete=complete)
    until(lambda: "app=evaluation in evals" in asked(probes, "/statusz")[1])
    ours.stop()


def test_a_worker_that_sweeps_registers_what_it_watches(valkey: ValkeyServer, client, tmp_path: Path) -> None:
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "evals"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    options = {"KEY_PREFIX": "near", "SWEEP_SECONDS": "60", "KUBECONFIG": str(tmp_path / "kubeconfig")}
    with Worker(valkey.url, tmp_path, **options):
        until(lambda: any(member.watches == "app=evaluation in evals" for member in decode_members(client.hvals(KEY))))


def test_a_member_says_what_its_handlers_want_in_which_group(client) -> None:
    (text,) = join(client)
    said = json.loads(text)
    assert said["seen"] == pytest.approx(time.time(), abs=5)
    assert said["handlers"] == {"mine.score": {"statuses": ["failed"], "group": "worker"}}
    assert 0 < client.ttl(KEY) <= KEPT_SECONDS


def test_a_worker_that_has_left_is_gone_and_its_handlers_stay_known_for_a_day(client) -> None:
    join(client)
    assert client.eval(SCRIPT, 1, KEY, *leaving(SERVING)) == []
    (member,) = decode_members(client.hvals(KEY))
    assert (member.left, member.handlers) == (True, SERVING.handlers)
    assert join(client), "it may come again"


def test_a_member_that_was_silent_for_a_day_and_a_value_that_is_none_are_removed(client) -> None:
    now = int(time.time())
    client.hset(KEY, "yesterday", json.dumps({"seen": now - KEPT_SECONDS - 60}))
    client.hset(KEY, "today", json.dumps({"seen": now - KEPT_SECONDS + 60}))
    for index, rubbish in enumerate(("", "{", "[]", "1", '{"seen": []}', "null")):
        client.hset(KEY, f"stranger-{index}", rubbish)
    assert len(join(client)) == 1
    assert sorted(client.hkeys(KEY)) == ["today", "worker:w"]


def test_a_key_of_another_type_is_replaced(client) -> None:
    client.set(KEY, "a stranger's")
    join(client)
    assert client.hkeys(KEY) == ["worker:w"]


def test_a_redis_that_rejects_the_registration_is_logged_once(
    valkey: ValkeyServer, probes: ServedProbes, client, caplog: pytest.LogCaptureFixture, monkeypatch
) -> None:
    monkeypatch.setattr(registration, "EVERY_SECONDS", 0.01)
    client.config_set("maxmemory", 1)
    try:
        ours = registered(valkey, probes)
        until(lambda: "redis refuses to register this process" in caplog.text)
    finally:
        client.config_set("maxmemory", 0)
    until(lambda: client.exists(KEY))
    ours.stop()
    assert caplog.text.count("redis refuses to register this process") == 1


def test_a_worker_registers_its_handlers_and_routes_again_and_again(valkey, client, tmp_path: Path) -> None:
    soon = "from jobcast.service import registration\nregistration.EVERY_SECONDS = 0.2\n"
    handler = soon + "@on('failed')\ndef score(event):\n    pass\n"

    def handlers() -> dict[str, Handler]:
        return {name: it for member in decode_members(client.hvals(KEY)) for name, it in member.handlers.items()}

    # Heartbeats of four hours: who is to name a handler cannot wait for the next.
    options = {"KEY_PREFIX": "near", "ROUTES": "completed=shop.pay@bills", "TAKEOVER_SECONDS": "86400"}
    with Worker(valkey.url, tmp_path, handler, **options):
        until(handlers)
        client.delete(KEY)
        assert until(handlers) == {
            "my_handlers.score": Handler(("failed",), "worker"),
            "route:shop.pay@bills": Handler(("completed",), "worker"),
        }
