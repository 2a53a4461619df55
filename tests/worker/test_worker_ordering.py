"""The order within an evaluation, whichever workers hold its entries, on a real Valkey."""

from collections.abc import Iterator

import pytest
import redis

from jobcast.keys import GROUP, Keys
from worker.entries import Entries
from worker.group import Group
from worker.scripts import run

KEYS = Keys("lanes")
STATUSES = ("running", "completed")


@pytest.fixture
def client(valkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


class Workers:
    """Two of them, and what both may do."""

    def __init__(self, client: "redis.Redis", group: str = GROUP) -> None:
        self.client = client
        self.name = group
        self.entries = Entries(client, KEYS, max_age=3600, group=group)
        self.groups = {name: Group(client, KEYS, name, group) for name in ("one", "two")}
        for name, group_of in self.groups.items():
            group_of.create()
            self.begins(name)

    def begins(self, name: str) -> None:
        self.client.set(KEYS.worker(name), "a token")

    def leaves(self, name: str) -> None:
        self.client.set(KEYS.worker(name), "leaving a token")

    def reads(self, name: str, count: int = 10, moved: str = "", **options: object) -> list[str]:
        (reply,) = run(self.client, self.groups[name].reading(count, moved.split(), **options))  # type: ignore[arg-type]
        return [entry for entry, _ in self.groups[name].read(reply).entries]

    def next_ready(self, name: str) -> list[str]:
        """Of what it holds."""
        entries, _ = self.groups[name].next_ready(self.groups[name].heartbeat(), 10)
        return [entry for entry, _ in entries]

    def ends(self, name: str, entry: str) -> None:
        self.entries.start(entry, "handler", name, f"{entry} {name}".replace(" ", "-"))
        assert self.entries.finish(entry, "handler")

    @property
    def lanes(self) -> dict[str, str]:
        return self.client.hgetall(KEYS.lanes(self.name))


@pytest.fixture
def workers(client) -> Workers:
    return Workers(client)


def tell(client, eval_id: str = "a", status: str = "completed", **fields: str) -> str:
    return client.xadd(KEYS.events, {"eval_id": eval_id, "status": status, "event": "{}", **fields})


def replay(client, eval_id: str = "a", handler: str = "", status: str = "completed") -> str:
    fields = {"eval_id": eval_id, "status": status, "event": "{}", "handler": handler, "of": ""}
    return f"replay:{client.xadd(KEYS.replays, fields)}"


def test_only_the_first_of_an_evaluation_is_given_out_whichever_consumer_reads_the_others(client, workers) -> None:
    first, second, other = tell(client), tell(client), tell(client, "b")
    assert workers.reads("one", 1) == [first]
    assert workers.reads("two") == [other]
    assert workers.lanes == {"a": f"{first} {second}", "b": other}
    assert workers.next_ready("two") == [other]


def test_who_ends_one_is_given_the_next_although_another_holds_it(client, workers) -> None:
    first, second = tell(client), tell(client)
    workers.reads("one", 1)
    assert workers.reads("two") == []
    workers.ends("one", first)
    assert workers.next_ready("two") == []
    assert workers.reads("one", 0, moved="a") == [second]
    workers.ends("one", second)
    assert workers.lanes == {}


def test_the_next_goes_to_the_worker_where_the_last_handler_ended(client, workers) -> None:
    first, second = tell(client), tell(client)
    workers.reads("one")
    workers.entries.open(first, ["quick", "slow"])
    workers.entries.start(first, "slow", "one", "try-1")
    workers.entries.start(first, "quick", "two", "try-2")
    workers.entries.finish(first, "quick")
    workers.entries.finish(first, "slow")
    assert workers.reads("two", 0, moved="a") == []
    assert workers.reads("one", 0, moved="a") == [second]


@pytest.mark.parametrize("how", ["leaves", "is dead"])
def test_the_next_of_a_worker_that_is_not_there_any_more_can_be_taken_over_at_once(client, workers, how: str) -> None:
    first, second = tell(client), tell(client)
    workers.reads("one")
    if how == "leaves":
        workers.leaves("one")
    else:
        client.delete(KEYS.worker("one"))
    workers.ends("one", first)
    assert workers.groups["two"].claim(60, 10) == [second]
    assert workers.next_ready("two") == [second]


def test_a_dead_letter_lets_the_next_one_go(client, workers) -> None:
    first, second = tell(client), tell(client)
    workers.reads("one")
    workers.entries.start(first, "handler", "one", "try-1")
    assert workers.entries.dead_letter(first, "handler", event="{}", reason="boom")
    assert workers.reads("one", 0, moved="a") == [second]


def test_what_no_handler_wants_is_acknowledged_unread_and_delays_nothing(client, workers) -> None:
    tell(client, status="running")
    wanted = tell(client)
    assert workers.reads("one", unwanted=["running"]) == [wanted]
    assert workers.lanes == {"a": wanted}
    assert workers.groups["one"].heartbeat() == [wanted]


def test_many_that_are_unwanted_or_wait_take_no_place(client, workers) -> None:
    first = tell(client, "slow")
    for _ in range(30):
        tell(client, "slow")
        tell(client, "b", status="running")
    wanted = tell(client, "c")
    assert workers.reads("one", 2, unwanted=["running"]) == [first, wanted]


def test_a_dead_workers_entries_keep_their_order_with_who_takes_them_over(client, workers) -> None:
    first, second = tell(client), tell(client)
    workers.reads("one")
    client.xclaim(KEYS.events, GROUP, "one", 0, [first, second], idle=90_000, justid=True)
    assert workers.groups["two"].claim(60, 10) == [first, second]
    assert workers.next_ready("two") == [first]
    workers.ends("two", first)
    assert workers.reads("two", 0, moved="a") == [second]


def test_one_that_is_not_pending_any_more_delays_nothing(client, workers) -> None:
    first, second, third = tell(client), tell(client), tell(client)
    workers.reads("one")
    client.xack(KEYS.events, GROUP, first)
    assert workers.next_ready("one") == [second]
    client.xdel(KEYS.events, second)
    assert workers.next_ready("one") == [third]


def test_ordering_keys_that_are_gone_are_made_again_in_order(client, workers) -> None:
    entries = [tell(client) for _ in range(3)]
    workers.reads("one")
    client.delete(KEYS.lanes())
    assert workers.groups["one"].next_ready(entries[::-1], 10)[0][0][0] == entries[2]  # what is lost is order, for once
    assert workers.lanes == {"a": " ".join(entries)}
    assert workers.next_ready("one") == entries[:1]


def test_entries_that_are_read_again_stand_once_in_their_ordering_key(client, workers) -> None:
    first, second = tell(client), tell(client)
    workers.reads("one")
    client.xgroup_setid(KEYS.events, GROUP, "0")
    assert workers.reads("two") == [first]
    assert workers.lanes == {"a": f"{first} {second}"}


def test_without_an_evaluation_there_is_no_order(client, workers) -> None:
    entries = [tell(client, ""), tell(client, ""), client.xadd(KEYS.events, {"event": "{}"})]
    assert workers.reads("one") == entries
    assert workers.lanes == {}


@pytest.mark.parametrize("eval_id", ["a b", "replay:1-0", "é", "}{"])
def test_any_name_of_an_evaluation_will_do(client, workers, eval_id: str) -> None:
    first, second = tell(client, eval_id), tell(client, eval_id)
    assert workers.reads("one") == [first]
    workers.ends("one", first)
    (reply,) = run(client, workers.groups["one"].reading(0, [eval_id]))
    assert [entry for entry, _ in workers.groups["one"].read(reply).entries] == [second]


def test_a_replay_waits_for_what_its_evaluation_has_in_the_stream_and_the_other_way_round(client, workers) -> None:
    first = tell(client)
    workers.reads("one")
    again = replay(client)
    assert workers.reads("two") == []
    last = tell(client)
    assert workers.reads("two") == []
    workers.ends("one", first)
    assert workers.reads("one", 0, moved="a") == [again]
    workers.ends("one", again)
    assert workers.reads("one", 0, moved="a") == [last]


def test_a_replay_is_deleted_once_no_group_needs_it(client, workers) -> None:
    others = Workers(client, "worker:shop")
    again = replay(client)
    assert workers.reads("one") == [again]
    workers.ends("one", again)
    assert client.xlen(KEYS.replays) == 1  # the other group has not read it
    assert others.reads("one") == [again]
    assert client.xlen(KEYS.replays) == 1
    others.ends("one", again)
    assert client.xlen(KEYS.replays) == 0


def test_a_twin_of_an_ended_replay_does_not_start(client, workers) -> None:
    again = replay(client)
    workers.reads("one")
    workers.ends("one", again)
    assert workers.entries.start(again, "handler", "two", "a-twin") == 0


def test_a_replay_that_names_its_handler_is_not_acknowledged_unread(client, workers) -> None:
    again = replay(client, handler="handler")
    replay(client)
    assert workers.reads("one", unwanted=["completed"]) == [again]


def test_neither_stream_starves_the_other(client, workers) -> None:
    events = [tell(client, f"e{n}") for n in range(6)]
    replays = [replay(client, f"r{n}") for n in range(6)]
    assert workers.reads("one", 3) == [*events[:2], replays[0]]
    assert workers.reads("one", 1, is_replays_turn=True) == [replays[1]]
    assert workers.reads("one", 1, is_replays_turn=False) == [events[2]]


def test_a_reading_says_behind_what_to_wait_only_when_nothing_is_left(client, workers) -> None:
    last, again = [tell(client, f"e{n}") for n in range(3)][-1], replay(client, "r")
    group = workers.groups["one"]
    (reply,) = run(client, group.reading(3))
    assert group.read(reply).behind is None
    (reply,) = run(client, group.reading(3))
    assert group.read(reply).behind == (last, again.removeprefix("replay:"))
