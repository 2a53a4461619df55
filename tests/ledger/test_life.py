"""The record of an evaluation beyond its latest event: progress, life, the Jobs it had, and its logs."""

import msgspec
import pytest
import zstandard

from jobcast.event import Log
from jobcast.ledger.ledger import PROGRESS, Outgoing
from jobcast.logs.index import LogIndex
from jobcast.logstore.base import REFUSED, LogPlace, LogStoreError, Stored
from tests.ledger.conftest import RETENTION, UID, World, step

OTHER = "11111111-63a5-4a83-9a41-0d1d3f6a7c10"
PLACE = LogPlace("evals", "eval-42", UID, "eval-42-x", "main")


def progress(one: str, status: str = "running") -> Outgoing:
    return Outgoing(one, PROGRESS, msgspec.json.encode({"id": one, "status": status}))


async def tell(world: World, *statuses: str, noted: tuple[str, ...] = (), **fields: object) -> tuple[str, int]:
    whole = step(*statuses, **fields)  # type: ignore[arg-type]
    outgoing = list(whole.outgoing)
    is_end = whole.status in ("completed", "failed", "cancelled")
    at = len(outgoing) - 1 if is_end else len(outgoing)
    outgoing[at:at] = [progress(one) for one in noted]
    published = await world.ledger.step(msgspec.structs.replace(whole, outgoing=tuple(outgoing)))
    return published.answer.value, published.count


async def test_progress_is_published_once_and_is_not_in_the_stream(world: World) -> None:
    await world.pubsub.psubscribe("test:*")
    assert await tell(world, "running", key="a") == ("published", 1)
    assert await tell(world, "running", key="a", noted=("x", "y")) == ("duplicate", 0)
    assert await tell(world, "running", key="a", noted=("x", "z"), version=9) == ("duplicate", 0)
    assert await world.stream() == ["running"]
    channels = [channel for channel, _ in await world.received(4)]
    assert channels == ["test:running", "test:progress", "test:progress", "test:progress"]


async def test_progress_comes_before_the_end_and_never_after(world: World) -> None:
    await world.pubsub.psubscribe("test:*")
    assert await tell(world, "running", "failed", key="a", noted=("x",)) == ("published", 2)
    assert await tell(world, "running", key="a", noted=("y",)) == ("ended", 0)
    assert [channel for channel, _ in await world.received(3)] == ["test:running", "test:progress", "test:failed"]


async def test_progress_alone_changes_no_status(world: World) -> None:
    await tell(world, "running", key="a", version=10)
    await world.ledger.step(msgspec.structs.replace(step(version=30), outgoing=(progress("x"),)))
    row = await world.row()
    assert (row["status"], row["version"], row["progress:x"]) == ("running", "10", "1")
    assert (await world.record())["status"] == "running"
    assert await tell(world, "suspended", key="b", version=20) == ("published", 1)


async def test_the_life_is_in_the_record_and_an_empty_field_is_taken_out(world: World) -> None:
    await tell(world, fields={"waiting": b'{"reason":"Unschedulable"}'})
    assert (await world.record())["waiting"] == '{"reason":"Unschedulable"}'
    await tell(world, fields={"waiting": b'{"reason":"ErrImagePull"}'})
    assert (await world.record())["waiting"] == '{"reason":"ErrImagePull"}'
    await tell(world, "running", key="a", version=11, fields={"waiting": b"", "started_at": b"then"})
    record = await world.record()
    assert "waiting" not in record
    assert (record["started_at"], record["status"]) == ("then", "running")


async def test_the_ledger_takes_out_what_a_status_makes_untrue(world: World) -> None:
    await tell(world, fields={"waiting": b"x", "attempts": b"y", "indexes": b"z"})
    await tell(world, "running", key="a", version=11)
    record = await world.record()
    assert ("waiting" in record, record["attempts"]) == (False, "y")
    await tell(world, "completed", version=12)
    record = await world.record()
    assert ("attempts" in record, record["indexes"]) == (False, "z")


async def test_a_replica_that_lags_does_not_rewrite_the_record(world: World) -> None:
    await tell(world, "running", key="a", version=20, fields={"attempts": b"new"})
    await tell(world, version=19, fields={"attempts": b"old"})
    assert (await world.record())["attempts"] == "new"
    await tell(world, "completed", version=21)
    await tell(world, version=22, fields={"waiting": b"late"})
    assert "waiting" not in await world.record()


async def test_the_jobs_of_an_evaluation_are_listed_and_the_newest_is_current(world: World) -> None:
    await tell(world, "running", key="a", fields={"started_at": b"then"})
    await tell(world, uid=OTHER, created=2000.0)
    record = await world.record()
    assert record[f"job:{UID}"] == f"1000.0 running evals/job of {UID[:8]}"
    assert record[f"job:{OTHER}"] == f"2000.0 pending evals/job of {OTHER[:8]}"
    assert record["uid"] == OTHER
    assert "started_at" not in record, "that was the older one's"
    await tell(world, "failed", version=11)
    record = await world.record()
    assert record[f"job:{UID}"].startswith("1000.0 failed ")
    assert (record["uid"], record["status"]) == (OTHER, "pending")


async def test_a_newer_job_keeps_a_record_that_was_about_to_expire(world: World) -> None:
    await tell(world, "completed")
    assert await world.client.ttl(world.keys.evaluation("42")) > 0
    await tell(world, uid=OTHER, created=2000.0)
    assert await world.client.ttl(world.keys.evaluation("42")) == -1


async def test_no_more_than_a_hundred_jobs_are_listed(world: World) -> None:
    for number in range(105):
        await tell(world, "completed", uid=f"uid-{number:03}", created=1000.0 + number)
    record = await world.record()
    listed = sorted(name for name in record if name.startswith("job:"))
    assert listed == [f"job:uid-{number:03}" for number in range(5, 105)]


# Logs.


@pytest.fixture
def index(world: World) -> LogIndex:
    return LogIndex(world.ledger, RETENTION)


async def put(index: LogIndex, data: bytes, place: LogPlace = PLACE) -> Stored:
    return await index.put(place, zstandard.compress(data), len(data))


@pytest.mark.must_survive(17)
@pytest.mark.parametrize("data", [b"", b"\xff\x00 exact\r\n" * 1000])
async def test_a_log_is_kept_exact_and_for_as_long_as_the_record(world: World, index: LogIndex, data: bytes) -> None:
    key = world.keys.log(UID, "eval-42-x", "main")
    assert await put(index, data) == Stored(f"redis:{key}", len(data))
    assert zstandard.decompress(await world.client.get(key)) == data
    assert RETENTION - 5 <= await world.client.ttl(key) <= RETENTION
    second = await put(index, b"y", PLACE._replace(instance=1))
    assert second.ref == f"redis:{key}:1", "each instance has its own"


@pytest.mark.must_survive(23)
async def test_a_later_emptier_log_replaces_nothing(world: World, index: LogIndex) -> None:
    await tell(world, "running", key="a")
    log = Log(state="complete", bytes=5, source="eval-42-x/main", ref=(await put(index, b"whole")).ref)
    await index.attach(PLACE, "42", log)
    assert (await put(index, b"who")).bytes == 5
    await index.attach(PLACE, "42", msgspec.structs.replace(log, bytes=3, state="truncated"))
    assert zstandard.decompress(await world.client.get(log.ref[len("redis:") :])) == b"whole"
    for found in (await world.row(), await world.record()):
        assert msgspec.json.decode(found["log:eval-42-x/main/0"], type=Log) == log
    assert (await put(index, b"more than that")).bytes == 14
    assert zstandard.decompress(await world.client.get(log.ref[len("redis:") :])) == b"more than that"


async def test_a_log_is_noted_where_its_job_is_and_outlives_neither(world: World, index: LogIndex) -> None:
    log = Log(state="complete", bytes=1)
    await index.attach(PLACE, "42", log)
    assert (await world.row(), await world.record()) == ({}, {}), "nobody would ever take it away"
    await tell(world, "completed")
    await tell(world, uid=OTHER, created=2000.0)
    await index.attach(PLACE, "42", log)
    assert "log:eval-42-x/main/0" in await world.row()
    assert "log:eval-42-x/main/0" not in await world.record(), "that is another Job's by now"
    assert await world.client.ttl(world.keys.job(UID)) > 0


async def test_a_log_that_redis_refuses_is_reported_as_a_log_store_reports_it(world: World, index: LogIndex) -> None:
    await world.client.lpush(world.keys.job(UID), "not a hash")
    await put(index, b"x")
    with pytest.raises(LogStoreError) as refused:
        await put(index, b"xy")
    assert refused.value.reason == REFUSED


async def test_what_the_store_did_not_take_is_remembered_until_it_is_stored(world: World, index: LogIndex) -> None:
    await index.add_pending_upload(PLACE, "42", "pod uid")
    await index.add_pending_upload(PLACE, "42", "pod uid")
    await index.add_pending_upload(PLACE._replace(instance=1), "42", "pod uid")
    await world.client.hset(world.keys.unstored, "odd", b"\xff no JSON")
    assert sorted(owed.place.instance for owed in await index.pending_uploads()) == [0, 1]
    await index.mark_uploaded(PLACE)
    (left,) = await index.pending_uploads()
    assert (left.place.instance, left.eval_id, left.pod_uid) == (1, "42", "pod uid")
    assert await world.client.hlen(world.keys.unstored) == 1


@pytest.mark.must_survive(21)
async def test_who_saw_the_first_line_first_is_believed(world: World, index: LogIndex) -> None:
    await index.record_first_line(UID, "pod/main/0", "early")
    assert await index.first_line(UID, "pod/main/0") is None, "there is no row that it could live with"
    await tell(world, "running", key="a")
    await index.record_first_line(UID, "pod/main/0", "early")
    await index.record_first_line(UID, "pod/main/0", "late")
    assert await index.first_line(UID, "pod/main/0") == "early"
