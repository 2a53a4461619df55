"""What strangers write into our keys costs nobody anything but what they wrote over: it is skipped, counted, healed or named."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import fakeredis
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobcast.client import AsyncClient, ClientError, Refused
from jobcast.client.record import Record
from jobcast.event import Event, Status
from jobcast.keys import Keys
from jobcast.ledger.ledger import Answer, Ledger, Outgoing, Step
from jobcast.redis.batcher import LedgerError
from jobcast.wire import MalformedEvent, decode, encode
from tests.client.telling import event
from tests.golden.shapes import SHAPES
from tests.property.odd import SNIPPETS, odd

KEYS = Keys("test")
REAL = [msgspec.json.decode(encode(shape)) for shape in SHAPES.values() if not hasattr(shape, "kind")]
BODY = st.one_of(*map(odd, REAL)) | st.binary(max_size=60)
FIELDS = st.dictionaries(
    st.sampled_from([b"event", b"id", b"status", b"eval_id", b"Event", b"", b"\xff"]), BODY, min_size=1, max_size=3
)
"""Of a stream entry: ours, with anything in them, others', or none of ours."""


def decodes(fields: dict[bytes, bytes]) -> bool:
    try:
        decode(fields.get(b"event", b""))
    except MalformedEvent:
        return False
    return True


def on_redis(story: Callable[[Any], Awaitable[None]]) -> None:
    """Run it on an empty Redis, against a clock that no story needs unless it hangs."""

    async def published() -> None:
        redis = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
        async with asyncio.timeout(60):
            await story(redis)
        await redis.aclose()

    asyncio.run(published())


def good(number: int) -> Event:
    return event("completed", f"good-{number}")


async def given_by(feed: Any, last: str) -> list[str]:
    """The ids of the evaluations that it gives, to the last one."""
    found: list[str] = []
    async with feed as items:
        async for item in items:
            found.append(getattr(item, "event", item).eval_id)
            if found[-1] == last:
                return found
    return found


@pytest.mark.must_survive(8)
@pytest.mark.parametrize("kind", ["stream", "follow"])
@settings(max_examples=40, deadline=None)
@given(strange=st.lists(FIELDS, max_size=6))
def test_entries_of_other_clients_are_skipped_and_counted_and_the_next_ones_flow(
    kind: str, strange: list[dict[bytes, bytes]]
) -> None:
    async def story(redis: Any) -> None:
        for number, fields in enumerate(strange):
            await redis.xadd(KEYS.events, fields)
            await redis.xadd(KEYS.events, {"event": encode(good(number))})
        await redis.xadd(KEYS.events, {"event": encode(good(99))})
        async with AsyncClient(client=redis, prefix="test") as client:
            feed: Any = client.stream("g") if kind == "stream" else client.follow("0")
            found = await given_by(feed, "good-99")
            readable = sum(map(decodes, strange))
            assert feed.malformed == len(strange) - readable
            assert len(found) == len(strange) + 1 + readable
            assert [name for name in found if name.startswith("good-")] == [
                *(f"good-{number}" for number in range(len(strange))),
                "good-99",
            ]
        if kind == "stream":
            assert (await redis.xpending(KEYS.events, "g"))["pending"] == 1, "the last one, which was in hand"

    on_redis(story)


@pytest.mark.must_survive(8)
@settings(max_examples=40, deadline=None)
@given(strange=st.lists(st.tuples(st.sampled_from([*Status, "progress"]), BODY), max_size=8))
def test_messages_of_other_clients_are_skipped_and_counted_and_the_next_ones_flow(
    strange: list[tuple[str, bytes]],
) -> None:
    async def story(redis: Any) -> None:
        async with AsyncClient(client=redis, prefix="test") as client, client.events(progress=True) as events:
            for number, (status, body) in enumerate(strange):
                await redis.publish(KEYS.channel(status), body)
                await redis.publish(KEYS.channel("completed"), encode(good(number)))
            await redis.publish(KEYS.channel("completed"), encode(good(99)))
            found: list[str] = []
            async for published in events:
                found.append(published.eval_id)
                if published.eval_id == "good-99":
                    break
            assert len([name for name in found if name.startswith("good-")]) == len(strange) + 1
            assert len(found) + events.malformed == 2 * len(strange) + 1

    on_redis(story)


NAMES = st.sampled_from(
    "status uid namespace name created event waiting started_at attempts indexes job: job:u job:v log:p/c/0 log:p/c/9 "
    f"log:p/c/{'9' * 5000} log:/ log: version running suspended eval_id progress:x first:y".split()
).map(str.encode)
VALUES = st.one_of(
    BODY,
    st.sampled_from(SNIPPETS),
    st.sampled_from([*Status, "pending", "inf", "-inf", "nan", "1e999", "-1", "9" * 400, "7 completed e/n"]).map(
        str.encode
    ),
    st.sampled_from([encode(shape) for shape in SHAPES.values()]),
)
HASH = st.dictionaries(NAMES | st.binary(max_size=8), VALUES, min_size=1, max_size=8)


@pytest.mark.must_survive(8)
@settings(max_examples=150, deadline=None)
@given(fields=HASH, status=st.sampled_from([None, *Status]))
def test_a_record_that_other_clients_wrote_into_is_read_or_refused_and_waited_for_no_longer_than_asked(
    fields: dict[bytes, bytes], status: str | None
) -> None:
    async def story(redis: Any) -> None:
        await redis.hset(KEYS.evaluation("42"), mapping=fields | ({b"status": status.encode()} if status else {}))
        async with AsyncClient(client=redis, prefix="test") as client:
            record = await client.get("42")
            assert record is None or isinstance(record, Record)
            with suppress(TimeoutError, MalformedEvent, ClientError):
                await client.wait("42", timeout=0)

    on_redis(story)


@pytest.mark.must_survive(8)
@pytest.mark.parametrize("kind", ["string", "list", "set", "stream"])
def test_a_record_of_another_type_is_refused_at_once(kind: str) -> None:
    async def story(redis: Any) -> None:
        await scribbled(redis, KEYS.evaluation("42"), kind)
        async with AsyncClient(client=redis, prefix="test") as client:
            with pytest.raises(Refused, match="WRONGTYPE"):
                await client.get("42")
            with pytest.raises(Refused, match="WRONGTYPE"):
                await client.wait("42", timeout=10)

    on_redis(story)


async def scribbled(redis: Any, key: str, kind: str) -> None:
    """A key of ours as something else."""
    await redis.delete(key)
    match kind:
        case "string":
            await redis.set(key, b"\xff")
        case "list":
            await redis.rpush(key, "x")
        case "set":
            await redis.sadd(key, "x")
        case "stream":
            await redis.xadd(key, {"x": "y"})


def step(name: str, status: str, version: int) -> Step:
    published = event(status, name, uid=f"uid-{name}")
    telling = Outgoing(published.id, published.status, encode(published))
    return Step(
        uid=f"uid-{name}",
        version=version,
        created=1000.0,
        eval_id=name,
        namespace="evals",
        name=name,
        status=status,
        outgoing=(telling,),
    )


async def told_of(redis: Any, name: str) -> list[str]:
    return [
        fields[b"status"].decode()
        for _, fields in await redis.xrange(KEYS.events)
        if fields.get(b"eval_id") == name.encode()
    ]


async def asked_all(ledger: Ledger) -> None:
    """Whatever a controller or a sweep asks of all Jobs at once: none of it may fail for one of them."""
    uids = ["uid-a", "uid-b"]
    assert "uid-b" in await ledger.recall(uids)
    found = await ledger.row("uid-b")
    assert found is not None
    assert found.name == "b"
    await ledger.open_uids()
    await ledger.keep(uids)


@pytest.mark.must_survive(8)
@settings(max_examples=150, deadline=None)
@given(row=HASH, record=HASH, opened=st.dictionaries(st.binary(max_size=8), st.floats(allow_nan=False), max_size=3))
@example(row={b"version": b"soon"}, record={b"uid": b"u"}, opened={})
@example(row={b"status": b"running"}, record={b"uid": b"u", b"created": b"soon"}, opened={})
@example(row={b"\xff": b"\xff", b"status": b"\xff", b"name": b"\xff"}, record={b"uid": b"u"}, opened={b"\xff": 1.0})
@example(row={b"status": b"running", b"version": b"inf", b"created": b"nan"}, record={b"uid": b"u"}, opened={})
@example(row={b"status": b"running", b"running": b"x", b"version": b"nan"}, record={b"created": b"nan"}, opened={})
def test_a_row_and_a_record_that_other_clients_wrote_into_heal_with_the_end_of_their_job(
    row: dict[bytes, bytes], record: dict[bytes, bytes], opened: dict[bytes, float]
) -> None:
    async def story(redis: Any) -> None:
        async with Ledger(redis, KEYS) as ledger:
            for name in ("a", "b"):
                await ledger.step(step(name, "running", 5))
            await redis.hset(KEYS.job("uid-a"), mapping=row)
            await redis.hset(KEYS.evaluation("a"), mapping=record)
            if opened:
                await redis.zadd(KEYS.open, opened)
            await asked_all(ledger)
            is_ended = (await redis.hget(KEYS.job("uid-a"), "status")) in (b"completed", b"failed", b"cancelled")
            answer = await ledger.step(step("a", "completed", 7))
            assert answer.answer is (Answer.ENDED if is_ended else Answer.PUBLISHED)
            assert (await ledger.step(step("b", "completed", 7))).answer is Answer.PUBLISHED
            assert await told_of(redis, "b") == ["running", "completed"]
            if not is_ended:
                assert await told_of(redis, "a") == ["running", "completed"]
                assert b"uid-a" not in await redis.zrange(KEYS.open, 0, -1)
                found = await ledger.row("uid-a")
                assert found is not None
                assert found.status == "completed"
            again = await ledger.step(step("a", "completed", 7))
            assert (again.answer, again.count) == (Answer.ENDED, 0)

    on_redis(story)


@pytest.mark.must_survive(8)
@pytest.mark.parametrize("kind", ["string", "list", "set", "stream"])
@pytest.mark.parametrize("key", [KEYS.job("uid-a"), KEYS.evaluation("a"), KEYS.claim("uid-a")])
def test_a_key_of_another_type_costs_its_own_job_and_no_other(key: str, kind: str) -> None:
    async def story(redis: Any) -> None:
        async with Ledger(redis, KEYS) as ledger:
            for name in ("a", "b"):
                await ledger.step(step(name, "running", 5))
            await scribbled(redis, key, kind)
            await asked_all(ledger)
            with suppress(LedgerError):
                await ledger.step(step("a", "completed", 7))
            with suppress(LedgerError):
                await ledger.claim("uid-a")
            assert (await ledger.step(step("b", "completed", 7))).answer is Answer.PUBLISHED
            assert await ledger.claim("uid-b")
            await redis.delete(key)
            await ledger.step(step("a", "completed", 8))
            assert (await told_of(redis, "a"))[-1] == "completed", (
                "it is published as soon as the key is out of the way"
            )

    on_redis(story)
