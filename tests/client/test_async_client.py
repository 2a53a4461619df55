"""What only the client for asyncio promises: giving up, being closed, leaving nothing behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobcast.client import AsyncClient, Unavailable, async_link
from jobcast.event import Log
from jobcast.redis.connection import connect
from testbed.valkey import ValkeyServer
from tests.client.keeping import place
from tests.client.subscribers import take
from tests.client.telling import Teller, event, telling_to
from tests.conftest import eventually


@pytest.fixture
async def teller(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Teller]:
    async with telling_to(valkey.url, prefix) as teller:
        yield teller


@pytest.fixture
async def jobcast(valkey: ValkeyServer, prefix: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(valkey.url, prefix) as client:
        yield client


async def subscribed(valkey: ValkeyServer) -> int:
    client = connect(valkey.url)
    try:
        return len(await client.pubsub_channels())
    finally:
        await client.aclose()


async def test_a_loop_left_by_break_leaves_no_subscription_behind(
    valkey: ValkeyServer, teller: Teller, jobcast: AsyncClient
) -> None:
    async def tell_once_somebody_listens() -> None:
        await eventually(lambda: subscribed(valkey))
        await teller.tell(event("running"))

    telling = asyncio.create_task(tell_once_somebody_listens())
    async for _ in jobcast.events("running"):
        break
    await telling

    async def is_gone() -> bool:
        return await subscribed(valkey) == 0

    await eventually(is_gone)


async def test_giving_up_on_an_item_loses_none(teller: Teller, jobcast: AsyncClient) -> None:
    async with jobcast.events() as events:
        for i in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await anext(events)
            await teller.tell(event("running", str(i)))
            assert (await take(events, 1))[0].eval_id == str(i)


async def test_giving_up_on_an_entry_loses_none_and_takes_none_twice(teller: Teller, jobcast: AsyncClient) -> None:
    async with jobcast.stream("scoring") as entries:
        for i in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await anext(entries)
            await teller.tell(event("running", str(i)))
            assert (await take(entries, 1))[0].event.eval_id == str(i)


@pytest.mark.parametrize("feed", ["events", "stream", "follow"])
async def test_closing_the_client_ends_a_feed_that_somebody_waits_for(jobcast: AsyncClient, feed: str) -> None:
    feeds = {"events": jobcast.events, "stream": lambda: jobcast.stream("scoring"), "follow": jobcast.follow}

    async def loop() -> str:
        async for _ in feeds[feed]():
            pass
        return "ended"

    waiting = asyncio.create_task(loop())
    await asyncio.wait([waiting], timeout=0.1)
    await jobcast.aclose()
    assert await asyncio.wait_for(waiting, 5) == "ended"


async def test_a_closed_client_says_so_instead_of_connecting_again(jobcast: AsyncClient) -> None:
    await jobcast.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await jobcast.get("42")
    with pytest.raises(Unavailable, match="closed"):
        jobcast.events()
    await jobcast.aclose()


async def test_a_cancelled_wait_leaves_no_task_and_no_connection_behind(
    valkey: ValkeyServer, jobcast: AsyncClient
) -> None:
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(jobcast.wait("42"))
    await eventually(lambda: subscribed(valkey))
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert asyncio.all_tasks() == before

    async def is_gone() -> bool:
        return await subscribed(valkey) == 0

    await eventually(is_gone)


async def test_giving_up_on_a_chunk_loses_none_and_closing_is_not_taken_for_the_end_of_the_log(
    teller: Teller, jobcast: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()
    said: list[str] = []

    async def read_slowly(ref: str) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await answered.wait()
            yield b"second"
            await asyncio.Event().wait()
        finally:
            said.append("closed")

    monkeypatch.setattr(async_link, "read_object_async", read_slowly)
    log = Log(state="complete", source="pod-a/main", ref=f"s3://bucket/{place(event('failed'))}", bytes=11)
    await teller.tell(event("failed", log=log))
    chunks = jobcast.log("42")
    assert await anext(chunks) == b"first"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(chunks)
    answered.set()
    assert await anext(chunks) == b"second"
    waiting = asyncio.create_task(anext(chunks))
    await asyncio.sleep(0)
    await jobcast.aclose()
    with pytest.raises(Unavailable, match="closed before the log was read to its end"):
        await waiting
    assert said == ["closed"]
