"""A world to subscribe in: something that tells, and subscribers of both kinds, on a real Valkey and on a fake one."""

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import fakeredis
import pytest

from jobcast.client import AsyncClient, Client
from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger
from jobcast.redis.connection import connect
from testbed.valkey import ValkeyServer
from tests.client.subscribers import Subscriber, Threaded, subscriber
from tests.client.telling import Teller
from tests.valkeys.fixtures import DOUBLED_PREFIX
from tests.valkeys.nodes import Doubled

KINDS = ("asyncio", "plain")


@dataclass
class World:
    """Where events are told and heard."""

    teller: Teller
    redis: Any
    """An asyncio client, for what neither teller nor subscribers can do."""
    join: Callable[[], Subscriber]
    """Another subscriber; closed after the test."""
    kind: str

    @property
    def keys(self) -> Keys:
        return self.teller.keys


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(params=("valkey", "fake"))
async def world(request: pytest.FixtureRequest, kind: str, prefix: str) -> AsyncIterator[World]:
    """On a Valkey that stays, and on a fake."""
    if request.param == "valkey":
        server: ValkeyServer = request.getfixturevalue("valkey")
        async for one in _world(connect(server.url), lambda: subscriber(kind, server.url, prefix), kind, prefix):
            yield one
        return
    fake = fakeredis.FakeServer()

    def join() -> Subscriber:
        if kind == "plain":
            return Threaded(Client(prefix=prefix, client=fakeredis.FakeRedis(server=fake)))
        return AsyncClient(prefix=prefix, client=fakeredis.FakeAsyncRedis(server=fake))

    async for one in _world(fakeredis.FakeAsyncRedis(server=fake), join, kind, prefix):
        yield one


@pytest.fixture
async def own_world(own_valkey: ValkeyServer, kind: str, prefix: str) -> AsyncIterator[World]:
    """On a Valkey that the test may stop and start again."""
    client = connect(own_valkey.url)
    async for one in _world(client, lambda: subscriber(kind, own_valkey.url, prefix), kind, prefix):
        yield one


@pytest.fixture
async def own_persistent_world(persistent_valkey: ValkeyServer, kind: str, prefix: str) -> AsyncIterator[World]:
    """On a Valkey that the test may stop and start again, and that remembers."""
    url = persistent_valkey.url
    async for one in _world(connect(url), lambda: subscriber(kind, url, prefix), kind, prefix):
        yield one


@pytest.fixture
async def doubled_world(doubled: Doubled, kind: str) -> AsyncIterator[World]:
    """On a Redis that the test may fail over."""
    redis = connect(doubled.url, prefix=DOUBLED_PREFIX)
    async for one in _world(redis, lambda: subscriber(kind, doubled.url, DOUBLED_PREFIX), kind, DOUBLED_PREFIX):
        yield one


async def _world(redis: Any, join: Callable[[], Subscriber], kind: str, prefix: str) -> AsyncIterator[World]:
    joined = []

    def join_once() -> Subscriber:
        joined.append(join())
        return joined[-1]

    async with Ledger(redis, Keys(prefix)) as ledger:
        yield World(Teller(ledger), redis, join_once, kind)
        for one in joined:
            await one.aclose()
    await redis.aclose()
