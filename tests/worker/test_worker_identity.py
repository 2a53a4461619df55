"""A worker's name, of which there may be one at a time."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from workers import SCORE, Worker, completed, tell, world

from jobcast.keys import Keys
from tests.conftest import until
from worker import identity
from worker.identity import Name, NameTaken
from worker.settings import WorkerSettings

KEY = Keys("name").worker("me@test")
STRANGER = "abcd"
SHORT = "import worker.identity\nworker.identity.LIFETIME_SECONDS = 1.0\n"


@pytest.fixture
def client(valkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(identity, "LIFETIME_SECONDS", 0.5)
    monkeypatch.setattr(identity, "KEEP_SECONDS", 0.1)
    monkeypatch.setattr(identity, "GLANCE_SECONDS", 0.02)


def fail(error: NameTaken) -> None:
    raise error


def named(valkey, refuse=fail) -> Name:
    return Name(WorkerSettings(redis_url=valkey.url, key_prefix="name"), "me@test", refuse)


def test_a_name_is_kept_until_it_is_given_back(valkey, client, quick) -> None:
    mine = named(valkey)
    mine.take()
    said = client.get(KEY)
    with pytest.raises(NameTaken, match="-n"):
        named(valkey).take()  # which waits for longer than the key would live if nobody kept it
    mine.leave()
    assert client.get(KEY) == f"leaving {said}"
    mine.give_back()
    assert not client.exists(KEY)


def test_a_name_that_no_process_keeps_is_free_after_its_lifetime(valkey, client, quick) -> None:
    client.set(KEY, STRANGER, px=400)
    mine = named(valkey)
    mine.take()
    assert client.get(KEY) != STRANGER
    mine.give_back()


def test_a_redis_that_is_down_at_the_start_is_asked_later(own_valkey, quick) -> None:
    own_valkey.stop()
    mine = named(own_valkey)
    mine.take()
    own_valkey.start()
    with redis.Redis.from_url(own_valkey.url) as client:
        until(lambda: client.exists(KEY))
    mine.give_back()


def test_who_could_not_ask_at_the_start_is_refused_later(valkey, client, quick, monkeypatch) -> None:
    client.set(KEY, STRANGER)
    refused: list[NameTaken] = []
    mine = named(valkey, refused.append)
    asked = iter([redis.ConnectionError("away")])
    set_key = mine._client.set

    def answer(*given: object, **options: object) -> object:
        for error in asked:
            raise error
        return set_key(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mine._client, "set", answer)
    mine.take()
    assert not refused
    until(lambda: refused)
    mine.give_back()
    assert client.get(KEY) == STRANGER


def test_one_whose_name_was_taken_while_it_was_silent_stops(valkey, client, quick, monkeypatch) -> None:
    stopped: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: stopped.append((pid, number)))
    mine = named(valkey)
    mine.take()
    client.set(KEY, STRANGER)
    until(lambda: stopped)
    mine.give_back()
    assert client.get(KEY) == STRANGER


def test_a_second_worker_of_a_name_ends_with_code_2_and_says_what_to_do(valkey, tmp_path: Path) -> None:
    with world(valkey.url, "twice") as redis, Worker(valkey.url, tmp_path, KEY_PREFIX="twice") as first:
        until(lambda: redis.client.exists(redis.keys.worker("one@test")))
        (tmp_path / "second").mkdir()
        hasty = SHORT + "@on()\ndef note(event): ...\n"
        second = Worker(valkey.url, tmp_path / "second", hasty, KEY_PREFIX="twice").start()
        assert second.process is not None
        assert second.process.wait(60) == 2
        (line,) = [line for line in second.log.splitlines() if "another worker" in line]
        assert line.startswith("-n one@test: another worker with the name one@test is alive; give each its own with -n")
        assert "Traceback" not in second.log
        assert first.get("/livez")[0] == 200


def test_a_worker_that_was_killed_begins_again_when_its_name_is_free(valkey, tmp_path: Path) -> None:
    with (
        world(valkey.url, "killed") as redis,
        Worker(valkey.url, tmp_path, SHORT + SCORE, KEY_PREFIX="killed") as worker,
    ):
        key = redis.keys.worker("one@test")
        value = until(lambda: redis.client.get(key))
        assert 0 < redis.client.pttl(key) <= 1000, "so long a restart waits"
        worker.kill()
        assert redis.client.get(key) == value
        worker.start()
        until(lambda: redis.client.get(key) not in (value, None))
        tell(valkey.url, "killed", completed("a"))
        until(lambda: redis.calls == ["score a completed"])
