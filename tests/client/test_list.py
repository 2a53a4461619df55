"""list(): the records of evaluations, the latest change first, in pages."""

from typing import Any

import pytest

from jobcast.client import Refused
from jobcast.client import listing as listing_room
from tests.client.conftest import World
from tests.client.subscribers import Subscriber
from tests.client.telling import event


async def ids(jobcast: Subscriber, **conditions: Any) -> list[str]:
    return [record.eval_id async for record in jobcast.list(**conditions)]


async def changed(world: World, eval_id: str, at: int, **fields: str) -> None:
    """An evaluation whose last change was at this time, Unix milliseconds."""
    await world.redis.zadd(world.keys.index, {eval_id: at})
    await world.redis.hset(world.keys.evaluation(eval_id), mapping={"status": "running", "uid": "u"} | fields)


async def test_the_latest_change_comes_first(world: World) -> None:
    await world.teller.tell(event("running", "a"), event("running", "b"), event("completed", "a"))
    # Two entries of one millisecond are listed by their ids; the second change of `a` may be as late as that of `b`.
    await world.redis.zadd(world.keys.index, {"b": 1})
    found = [record async for record in world.join().list()]
    assert [(one.eval_id, one.status) for one in found] == [("a", "completed"), ("b", "running")]
    assert found[0].event == event("completed", "a")


async def test_an_empty_index_is_an_empty_list(world: World) -> None:
    assert await ids(world.join()) == []


async def test_only_what_matches_every_condition_is_listed(world: World) -> None:
    nightly = {"pipeline": "nightly", "team": "a"}
    await world.teller.tell(event("failed", "1", metadata=nightly), event("running", "2", metadata=nightly))
    await world.teller.tell(event("failed", "3", metadata={"team": "b"}))
    await world.teller.see("4", event("running", "4").job)
    jobcast = world.join()
    assert sorted(await ids(jobcast, status=["failed", "pending"])) == ["1", "3", "4"]
    assert await ids(jobcast, status="pending") == ["4"]
    assert sorted(await ids(jobcast, labels={"team": ["a", "b"]})) == ["1", "2", "3"]
    assert await ids(jobcast, pipeline="nightly", status="failed") == ["1"]
    assert await ids(jobcast, labels={"team": "a", "pipeline": "weekly"}) == []
    assert sorted(await ids(jobcast, namespace="evals")) == ["1", "2", "3", "4"]
    assert await ids(jobcast, namespace="other") == []


async def test_what_has_not_changed_since_then_is_not_listed(world: World) -> None:
    await changed(world, "old", 1_795_168_799_000)
    await changed(world, "new", 1_795_168_800_000)
    assert await ids(world.join(), since="2026-11-20T10:00:00Z") == ["new"]
    now = await world.redis.time()
    await changed(world, "old", (now[0] - 7300) * 1000)
    await changed(world, "new", (now[0] - 7100) * 1000)
    assert await ids(world.join(), since="2h") == ["new"]


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_pages_join_without_gap_or_repetition_also_among_changes_of_one_millisecond(
    world: World, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_room, "PAGE", page)
    monkeypatch.setattr("jobcast.client.record.BATCH", 2)
    times = [5, 5, 5, 5, 4, 3, 3, 3, 2]
    for number, at in enumerate(times):
        await changed(world, f"{number}", at)
    found = await ids(world.join())
    assert sorted(found) == sorted(map(str, range(len(times))))
    assert [times[int(one)] for one in found] == times


async def test_it_stops_at_the_limit_and_reads_no_further(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_room, "PAGE", 3)
    for number in range(10):
        await changed(world, str(number), number)
    read: list[Any] = []
    read_many = listing_room.read_many

    def counted(keys: Any, eval_ids: Any, **more: Any) -> Any:
        read.extend(eval_ids)
        return read_many(keys, eval_ids, **more)

    monkeypatch.setattr(listing_room, "read_many", counted)
    assert await ids(world.join(), limit=4) == ["9", "8", "7", "6"]
    assert set(read) == {"9", "8", "7", "6", "5", "4"}


async def test_a_member_without_a_record_or_with_a_foreign_one_is_skipped(world: World) -> None:
    await changed(world, "kept", 1)
    await world.redis.zadd(world.keys.index, {"expired": 2, "foreign": 3})
    await world.redis.set(world.keys.evaluation("foreign"), "x")
    assert await ids(world.join()) == ["kept"]
    assert await ids(world.join(), status="running") == ["kept"]


async def test_an_index_of_another_type_is_refused(world: World) -> None:
    await world.redis.set(world.keys.index, "x")
    with pytest.raises(Refused, match="WRONGTYPE"):
        await ids(world.join())


@pytest.mark.parametrize(
    ("conditions", "complaint"),
    [
        ({"status": "finished"}, "'finished' is not a status; use pending, running,"),
        ({"namespace": "A_B"}, "namespace='A_B'"),
        ({"labels": {"team": ""}}, r"labels\['team'\]"),
        ({"since": "yesterday"}, "'yesterday' is not a time"),
        ({"limit": 0}, "limit=0: it must be at least 1"),
    ],
)
async def test_conditions_that_cannot_hold_are_refused_at_once(
    world: World, conditions: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        world.join().list(**conditions)
