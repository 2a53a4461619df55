"""Operator.wait_all(): the ends of several evaluations, each once, as they are known."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from jobcast.client.operator import Operator
from jobcast.redis.connection import connect
from testbed.valkey import ValkeyServer
from tests.client.telling import Teller, event, telling_to
from tests.conftest import eventually


@pytest.fixture
async def teller(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Teller]:
    async with telling_to(valkey.url, prefix) as teller:
        yield teller


@pytest.fixture
async def operator(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Operator]:
    async with Operator(valkey.url, prefix) as operator:
        yield operator


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator["redis.asyncio.Redis"]:
    async with connect(valkey.url) as client:
        yield client


async def test_ends_before_and_after_the_call_are_given_once_each(operator: Operator, teller: Teller) -> None:
    await teller.tell(event("failed", "a"), event("running", "b"))
    found = []
    async with asyncio.timeout(30):
        async for end in operator.wait_all(["b", "a", "c", "a"]):
            found.append((end.eval_id, end.status.value))
            if len(found) == 1:
                await teller.tell(event("completed", "other"), event("cancelled", "c"), event("completed", "b"))
    assert found[0] == ("a", "failed")
    assert sorted(found[1:]) == [("b", "completed"), ("c", "cancelled")]


async def test_many_are_waited_for_over_one_subscription(
    operator: Operator, teller: Teller, client: "redis.asyncio.Redis"
) -> None:
    names = [str(number) for number in range(50)]

    async def ends() -> list[str]:
        return [end.eval_id async for end in operator.wait_all(names)]

    waiting = asyncio.create_task(ends())
    channel = operator.keys.channel("failed")

    async def subscribers() -> int:
        return int((await client.pubsub_numsub(channel))[0][1])

    await eventually(lambda: subscribers())
    assert await subscribers() == 1
    await teller.tell(*(event("completed", name) for name in reversed(names)))
    assert sorted(await asyncio.wait_for(waiting, 30)) == sorted(names)


async def test_a_timeout_names_those_that_have_not_ended(operator: Operator, teller: Teller) -> None:
    await teller.tell(event("completed", "a"))
    found: list[str] = []
    with pytest.raises(TimeoutError, match="'b', 'c' is not known to have ended"):
        async for end in operator.wait_all(["a", "b", "c"], 0.1):
            found = [*found, end.eval_id]
    assert found == ["a"]


async def test_none_at_all_have_ended_at_once(operator: Operator) -> None:
    assert [end async for end in operator.wait_all([])] == []
