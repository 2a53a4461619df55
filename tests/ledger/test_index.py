"""The index of evaluations: newest change first, as long as their records, and whole again when it was lost."""

import time

import pytest

from jobcast.ledger import index
from jobcast.ledger.index import is_repair_due, repair_index, trim_index
from jobcast.redis.batcher import LedgerError
from tests.ledger.conftest import RETENTION, World


async def listed(world: World) -> list[str]:
    """Newest change first."""
    return [eval_id.decode() for eval_id in await world.client.zrevrange(world.keys.index, 0, -1)]


async def entry_millis(world: World) -> list[float]:
    return [float(entry.split(b"-")[0]) for entry, _ in await world.client.xrange(world.keys.events)]


async def age(world: World, eval_id: str, seconds: float) -> None:
    await world.client.zadd(world.keys.index, {eval_id: (time.time() - seconds) * 1000})


async def test_a_step_writes_when_the_evaluation_changed_last(world: World) -> None:
    await world.publish("running", key="a")
    await world.publish("completed", version=11)
    assert await world.client.zscore(world.keys.index, "42") == (await entry_millis(world))[-1]


async def test_an_evaluation_that_has_published_nothing_is_as_old_as_its_job(world: World) -> None:
    await world.publish(created=1234.5)
    assert await world.client.zscore(world.keys.index, "42") == 1234500
    await world.publish("running", key="a", version=11)
    await world.publish(version=12, fields={"waiting": b"x"})
    assert await world.client.zscore(world.keys.index, "42") == (await entry_millis(world))[0], "only events move it"


async def test_the_evaluation_that_changed_last_comes_first(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.publish("running", uid=name, eval_id=name, key="x")
        await age(world, name, {"a": 30, "b": 20, "c": 10}[name])
    assert await listed(world) == ["c", "b", "a"]
    await world.publish("completed", uid="a", eval_id="a", version=11)
    assert await listed(world) == ["a", "c", "b"]


async def test_a_newer_job_of_the_evaluation_moves_it_and_an_older_one_does_not(world: World) -> None:
    await world.publish("running", uid="old", key="x", created=1000.0)
    await world.publish("completed", uid="old", version=11, created=1000.0)
    await age(world, "42", 60)
    await world.publish("running", uid="new", key="x", created=2000.0)
    assert await world.client.zscore(world.keys.index, "42") == (await entry_millis(world))[-1]
    await age(world, "42", 60)
    before = await world.client.zscore(world.keys.index, "42")
    await world.publish("running", uid="older", key="x", created=500.0)
    assert await world.client.zscore(world.keys.index, "42") == before


async def test_with_no_job_open_the_index_expires_with_the_last_record(world: World) -> None:
    await world.publish("running", uid="a", eval_id="a", key="x")
    await world.publish("completed", uid="b", eval_id="b")
    assert await world.client.ttl(world.keys.index) == -1, "the record of an open Job has no expiry either"
    await world.publish("completed", uid="a", eval_id="a", version=11)
    assert RETENTION - 5 <= await world.client.ttl(world.keys.index) <= RETENTION
    await world.publish(uid="c", eval_id="c")
    assert await world.client.ttl(world.keys.index) == -1


async def test_old_evaluations_leave_with_their_records(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PAGE", 3)
    for name in "abcdefgh":
        await world.publish("running", uid=name, eval_id=name, key="x")
        await age(world, name, 2 * RETENTION - ord(name))
    for name in "acdfgh":
        await world.client.delete(world.keys.evaluation(name))
    await age(world, "h", 1)
    assert await trim_index(world.ledger, newest=time.time() - RETENTION) == 5
    assert await listed(world) == ["h", "e", "b"], "the record of h may be on its way"
    assert await trim_index(world.ledger) == 1
    assert await trim_index(world.ledger) == 0


async def test_a_repair_removes_what_has_no_record(world: World) -> None:
    await world.publish("running", key="a")
    await world.client.zadd(world.keys.index, {"gone": 1, "gone too": time.time() * 1000})
    assert await repair_index(world.ledger) == 2
    assert await listed(world) == ["42"]


async def test_evaluations_that_are_missing_are_put_back_by_their_events_time(world: World) -> None:
    event = b'{"status":"running","eval_id":"a\\"timestamp\\":7","timestamp":1795168830.25}'
    for name in ("a", "b"):
        await world.publish("running", uid=name, eval_id=name, key="x", created=1000.0)
    await world.client.hset(world.keys.evaluation("a"), "event", event)
    await world.client.hset(world.keys.evaluation("b"), "event", "nonsense")
    await world.publish(uid="c", eval_id="c", created=2000.0)
    await world.client.delete(world.keys.index)
    assert await repair_index(world.ledger) == 3
    found = await world.client.zrange(world.keys.index, 0, -1, withscores=True)
    assert found == [(b"b", 1000000), (b"c", 2000000), (b"a", 1795168830250)]
    assert await repair_index(world.ledger) == 0


async def test_an_index_that_somebody_wrote_over_is_an_error(world: World) -> None:
    await world.publish("running", key="a")
    await world.client.delete(world.keys.index)
    await world.client.set(world.keys.index, "text")
    with pytest.raises(LedgerError, match="WRONGTYPE"):
        await repair_index(world.ledger)


async def test_an_index_without_expiry_goes_with_the_last_record(world: World) -> None:
    await world.publish("completed")
    await world.client.persist(world.keys.index)
    await world.client.delete(world.keys.evaluation("42"))
    await trim_index(world.ledger)
    assert not await world.client.exists(world.keys.index)


async def test_of_many_workers_one_repairs_in_a_while(world: World) -> None:
    assert await is_repair_due(world.ledger)
    assert not await is_repair_due(world.ledger)
    assert 0 < await world.client.ttl(world.keys.pruned) <= RETENTION / 3
