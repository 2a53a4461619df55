"""Waiting for entries and for other threads, on a real Valkey."""

import threading
from collections.abc import Iterator

import pytest
import redis

from jobcast.keys import Keys
from worker.group import Group
from worker.scripts import run
from worker.wakeup import Wakeup

KEYS = Keys("wakeup")
LONG = 30.0


@pytest.fixture
def client(own_valkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(own_valkey.url) as client:
        yield client


@pytest.fixture
def group(client) -> Group:
    group = Group(client, KEYS, "me")
    group.create()
    return group


@pytest.fixture
def wakeup(client) -> Iterator[Wakeup]:
    wakeup = Wakeup(client, (KEYS.events, KEYS.replays), 2.0)
    yield wakeup
    wakeup.close()


def ask(client, group, wakeup) -> None:
    (reply,) = run(client, group.reading(10))
    behind = group.read(reply).behind
    assert behind is not None
    wakeup.ask(behind, group.reading(10))


@pytest.mark.parametrize("stream", [KEYS.events, KEYS.replays])
def test_what_comes_to_either_stream_is_given_at_once(client, group, wakeup, stream: str) -> None:
    client.xadd(stream, {"event": "old"})
    ask(client, group, wakeup)
    assert wakeup.wait(0) is None
    client.xadd(stream, {"event": "new"})
    ((_, fields),) = group.read(wakeup.wait(LONG)).entries
    assert fields == {b"event": b"new"}
    assert not wakeup.is_asked


def test_a_wake_up_is_noticed_and_the_answer_still_comes(client, group, wakeup) -> None:
    ask(client, group, wakeup)
    wakeup.wake()
    assert wakeup.wait(LONG) is None
    threading.Timer(0.05, wakeup.wake).start()
    assert wakeup.wait(LONG) is None
    assert wakeup.is_asked
    client.xadd(KEYS.events, {"event": "new"})
    assert len(group.read(wakeup.wait(LONG)).entries) == 1


def test_redis_waits_no_longer_than_asked(client, group, wakeup) -> None:
    ask(client, group, wakeup)
    assert group.read(wakeup.answer()).entries == []


def test_a_stream_that_was_trimmed_is_waited_for_where_it_was(client, group, wakeup) -> None:
    client.xadd(KEYS.events, {"event": "old"})
    ask(client, group, wakeup)
    client.xtrim(KEYS.events, 0)
    client.xadd(KEYS.events, {"event": "new"})
    assert len(group.read(wakeup.wait(LONG)).entries) == 1


def test_a_redis_that_forgot_says_so(client, group, wakeup) -> None:
    ask(client, group, wakeup)
    client.execute_command("FLUSHALL")
    client.xadd(KEYS.events, {"event": "new"})
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        wakeup.wait(LONG)


@pytest.mark.must_survive(27)
def test_a_primary_that_is_demoted_while_it_is_waited_for_is_left_alone(client, group, wakeup) -> None:
    ask(client, group, wakeup)
    while client.info("clients")["blocked_clients"] == 0:
        pass
    client.execute_command("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(redis.ResponseError, match="UNBLOCKED"):
        wakeup.wait(LONG)
    assert not wakeup.is_asked


def test_a_script_that_redis_has_lost_or_a_connection_is_nothing_to_complain_of(client, group, wakeup) -> None:
    ask(client, group, wakeup)
    client.script_flush()
    client.xadd(KEYS.events, {"event": "new"})
    assert wakeup.wait(LONG) is None
    assert not wakeup.is_asked
    assert len(group.read(run(client, group.reading(10))[0]).entries) == 1
    ask(client, group, wakeup)
    client.client_kill_filter(_type="normal", skipme=True)
    assert wakeup.wait(LONG) is None
    assert not wakeup.is_asked


def test_waking_one_that_is_closed_does_nothing(wakeup) -> None:
    for _ in range(100_000):
        wakeup.wake()
    wakeup.close()
    wakeup.wake()
