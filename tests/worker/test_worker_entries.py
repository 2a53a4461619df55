"""A stream entry from its start to its acknowledgement, on a real Valkey."""

from collections.abc import Iterator

import pytest
import redis

from jobcast.keys import GROUP, Keys
from worker.entries import Entries
from worker.group import Group, is_gone
from worker.scripts import run

KEYS = Keys("entries")


@pytest.fixture
def client(valkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def entries(client) -> Entries:
    return Entries(client, KEYS, max_age=3600)


@pytest.fixture
def group(client) -> Group:
    group = Group(client, KEYS, "me")
    assert group.create()
    assert not group.create()
    return group


@pytest.fixture
def entry(client, group) -> str:
    client.xadd(KEYS.events, {"event": "{}"})
    return take(client, group)[0]


def take(client, group, count: int = 10) -> list[str]:
    """What the group's consumer may hand out of what is unread."""
    (reply,) = run(client, group.reading(count))
    return [entry for entry, _ in group.read(reply).entries]


def is_pending(client, entry: str) -> bool:
    return bool(client.xpending_range(KEYS.events, GROUP, entry, entry, 1))


def test_the_last_handler_to_end_acknowledges(client, entries, entry) -> None:
    assert entries.open(entry, ["a", "b"]) == (["a", "b"], [], 0)
    assert not entries.finish(entry, "a")
    assert is_pending(client, entry)
    assert entries.finish(entry, "b")
    assert not is_pending(client, entry)
    assert not client.exists(KEYS.todo(entry))


def test_ending_twice_is_safe(client, entries, entry) -> None:
    entries.open(entry, ["a", "b"])
    entries.finish(entry, "a")
    assert not entries.finish(entry, "a")
    assert is_pending(client, entry)
    assert entries.finish(entry, "b")
    assert not entries.finish(entry, "b")
    assert not client.exists(KEYS.todo(entry))


def test_a_redelivery_is_for_those_who_have_not_ended(entries, entry) -> None:
    entries.open(entry, ["a", "b"])
    entries.finish(entry, "a")
    assert entries.open(entry, ["a", "b"]) == (["b"], [], 0)
    assert entries.start(entry, "a", "me", "try 1") == 0
    assert entries.start(entry, "b", "me", "try 2") == 1
    assert entries.start(entry, "b", "me", "try 3") == 2


@pytest.mark.must_survive(25)
def test_a_start_whose_reply_was_lost_is_the_same_start(entries, entry) -> None:
    assert entries.start(entry, "a", "me", "first") == 1
    assert entries.start(entry, "a", "me", "first") == 1
    assert entries.start(entry, "a", "me", "second") == 2


def test_a_twin_of_an_ended_task_does_not_start(client, entries, entry) -> None:
    assert entries.start(entry, "a", "me", "try 4") == 1
    assert entries.finish(entry, "a")
    assert entries.start(entry, "a", "me", "try 5") == 0
    assert entries.open(entry, ["a"]) == ([], [], 0)
    assert not client.exists(KEYS.todo(entry))


def test_a_start_makes_the_entry_the_starters(client, entries, entry) -> None:
    entries.start(entry, "a", "another", "try 6")
    (pending,) = client.xpending_range(KEYS.events, GROUP, "-", "+", 10)
    assert pending["consumer"] == "another"


def test_an_entry_that_was_trimmed_before_its_task_began_is_run_all_the_same(client, entries, group, entry) -> None:
    client.xtrim(KEYS.events, maxlen=0)
    client.xclaim(KEYS.events, GROUP, "me", 0, [entry], justid=True)  # which drops it from what is pending
    assert entries.start(entry, "a", "me", "try 7") == 1
    assert not entries.finish(entry, "a")


def test_a_handler_that_was_renamed_still_gets_the_event_and_its_old_name_is_reported(client, entries, entry) -> None:
    entries.start(entry, "old", "me", "try 8")
    assert entries.open(entry, ["new"]) == (["new"], ["old"], 0)
    assert entries.dead_letter(entry, "old", event="{}", reason="not registered any more")
    assert is_pending(client, entry)
    entries.finish(entry, "new")
    assert not is_pending(client, entry)


def test_a_dead_letter_is_written_once_and_ends_its_handler_alone(client, entries, entry) -> None:
    entries.open(entry, ["a", "b"])
    assert entries.dead_letter(entry, "a", event="{}", reason="boom", traceback="T" * 100_000, tries=4)
    assert not entries.dead_letter(entry, "a", event="{}", reason="boom")
    assert is_pending(client, entry)
    ((_, letter),) = client.xrange(KEYS.dead)
    assert letter["entry"] == entry
    assert letter["handler"] == "a"
    assert letter["tries"] == "4"
    assert len(letter["traceback"]) == 16_384
    entries.finish(entry, "b")
    assert not is_pending(client, entry)


def test_a_dead_letter_without_a_handler_ends_the_entry(client, entries, entry) -> None:
    assert entries.dead_letter(entry, "", event=b"\xff", reason="malformed")
    assert not is_pending(client, entry)
    assert not entries.dead_letter(entry, "", event=b"\xff", reason="malformed")


def test_what_a_consumer_does_not_touch_can_be_taken_over(client, entries, group, entry) -> None:
    client.xclaim(KEYS.events, GROUP, "me", 0, [entry], idle=5000, justid=True)
    other = Group(client, KEYS, "other")
    assert group.heartbeat() == [entry]
    assert other.claim(2.0, 10) == []
    group.release(kept=[entry])
    assert other.claim(2.0, 10) == []
    group.release(kept=[])
    assert other.claim(2.0, 10) == [entry]
    assert other.heartbeat() == [entry]
    assert group.heartbeat() == []
    assert group.lags() == {GROUP: 1}


def test_what_is_silent_is_found_behind_much_that_is_alive(client, group) -> None:
    for _ in range(40):
        client.xadd(KEYS.events, {"event": "{}"})
    *_, silent = take(client, group, 100)
    client.xclaim(KEYS.events, GROUP, "me", 0, [silent], idle=5000, justid=True)
    assert Group(client, KEYS, "other").claim(2.0, 1) == [silent]


def test_holding_does_not_take_back_what_has_begun_elsewhere(client, entries, group, entry) -> None:
    entries.start(entry, "a", "another", "try 9")
    assert group.heartbeat() == []


def test_a_flushed_redis_is_distinguished_from_one_that_is_down(client, group) -> None:
    client.flushall()
    for ask in (
        lambda: take(client, group),
        lambda: group.claim(1, 10),
        group.heartbeat,
        lambda: group.acknowledged(["1-1"]),
        group.lags,
        group.forget_the_dead,
    ):
        with pytest.raises(redis.ResponseError) as refused:
            ask()
        assert is_gone(refused.value)
    assert not is_gone(redis.ConnectionError("Connection refused"))


def test_a_group_beyond_the_end_of_its_stream_begins_anew_and_any_other_stays_where_it_is(client, group, entry) -> None:
    assert not group.rewind()
    assert take(client, group) == []
    last = client.xinfo_stream(KEYS.events)["last-generated-id"]
    for beyond in (f"{last.partition('-')[0]}-99", "1" + "0" * len(last.partition("-")[0]) + "-0"):
        client.xgroup_setid(KEYS.events, GROUP, beyond)
        assert group.rewind()
        assert take(client, group) == [entry]
        assert not group.rewind()


def test_consumers_that_hold_nothing_are_forgotten_only_after_a_day(client, group, entry) -> None:
    group.forget_the_dead()
    assert [consumer["name"] for consumer in client.xinfo_consumers(KEYS.events, GROUP)] == ["me"]


def test_a_handler_that_waits_to_be_tried_again_is_not_left_until_then(entries, entry) -> None:
    entries.open(entry, ["a", "b"])
    entries.start(entry, "a", "one", "x")
    entries.pause(entry, "a", 3600)
    assert entries.open(entry, ["a", "b"]) == (["b"], [], 1)
    assert entries.start(entry, "a", "two", "y") == 2
    assert entries.open(entry, ["a", "b"]) == (["a", "b"], [], 0)
    entries.pause(entry, "a", 3600)
    entries.finish(entry, "b")
    assert entries.open(entry, ["a", "b"]) == ([], [], 1)
    entries.pause(entry, "a", 0)
    assert entries.open(entry, ["a", "b"]) == (["a"], [], 0)
    assert entries.finish(entry, "a")
