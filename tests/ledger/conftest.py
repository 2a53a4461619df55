"""One ledger, on a real Valkey and on a fake one; and a Redis of one's own to be broken."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import fakeredis
import pytest
import redis.asyncio

from jobcast.event import TERMINAL, event_id
from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger, Outgoing, Step, StepResult
from jobcast.redis.connection import connect
from testbed.valkey import ValkeyServer

UID = "6f9d3b52-63a5-4a83-9a41-0d1d3f6a7c10"
RETENTION = 1000


def step(*statuses: str, uid: str = UID, version: int = 10, key: str = "", **fields: Any) -> Step:
    """Publishes these statuses, in order; none is a pending Job. `key` marks a recurrence."""
    outgoing = tuple(
        Outgoing(
            one := event_id(uid, status, "" if status in TERMINAL else key),
            status,
            json.dumps({"id": one, "status": status, "v": version}).encode(),
        )
        for status in statuses
    )
    named = {"eval_id": "42", "created": 1000.0, "namespace": "evals", "name": f"job of {uid[:8]}"} | fields
    return Step(uid=uid, version=version, status=statuses[-1] if statuses else "pending", outgoing=outgoing, **named)


class World:
    """A ledger, a bare client beside it, and a subscriber to all its channels."""

    def __init__(self, ledger: Ledger, client: Any, data_losses: list[str], errors: list[str | None]) -> None:
        self.ledger, self.client = ledger, client
        self.data_losses, self.errors = data_losses, errors
        self.keys = ledger.keys
        self.pubsub = client.pubsub()

    async def publish(self, *statuses: str, **fields: Any) -> StepResult:
        return await self.ledger.step(step(*statuses, **fields))

    async def stream(self) -> list[str]:
        """`<status>` of each entry."""
        return [fields[b"status"].decode() for _, fields in await self.client.xrange(self.keys.events)]

    async def ids(self) -> list[str]:
        return [fields[b"id"].decode() for _, fields in await self.client.xrange(self.keys.events)]

    async def row(self, uid: str = UID) -> dict[str, str]:
        row = await self.client.hgetall(self.keys.job(uid))
        return {key.decode(): value.decode() for key, value in row.items()}

    async def record(self, eval_id: str = "42") -> dict[str, str]:
        record = await self.client.hgetall(self.keys.evaluation(eval_id))
        return {key.decode(): value.decode() for key, value in record.items()}

    async def received(self, count: int) -> list[tuple[str, str]]:
        """Channel and status of the next so many messages, and proof that no more came."""
        found = []
        async with asyncio.timeout(60):
            while len(found) < count:
                message = await self.pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is not None:
                    found.append((message["channel"].decode(), json.loads(message["data"])["status"]))
        await self.client.publish(self.keys.channel("nothing"), json.dumps({"status": "the end"}))
        async with asyncio.timeout(60):
            while (message := await self.pubsub.get_message(ignore_subscribe_messages=True, timeout=1)) is None:
                pass
        assert message["data"] == b'{"status": "the end"}', "more was published than was asked for"
        return found


@asynccontextmanager
async def world_on(
    make_client: Callable[[], Any], *, bare: Callable[[], Any] | None = None, **options: Any
) -> AsyncIterator[World]:
    before = asyncio.all_tasks()
    data_losses: list[str] = []
    errors: list[str | None] = []
    client, beside = make_client(), (bare or make_client)()
    options = {"retention": RETENTION, "on_data_loss": data_losses.append, "on_error": errors.append} | options
    async with Ledger(client, Keys("test"), **options) as ledger:
        world = World(ledger, beside, data_losses, errors)
        yield world
        await world.pubsub.aclose()
    await client.aclose()
    await beside.aclose()
    left = [name for task in asyncio.all_tasks() - before if (name := task.get_name()) in ("ledger", "redis guard")]
    assert not left, "a task is left"


@pytest.fixture(params=("valkey", "fake"))
def make_client(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Makes clients of the same empty Redis, real or not."""
    if request.param == "valkey":
        url = request.getfixturevalue("valkey").url
        return lambda: connect(url)
    server = fakeredis.FakeServer()
    return lambda: fakeredis.FakeAsyncRedis(server=server)


@pytest.fixture
async def world(make_client: Callable[[], Any]) -> AsyncIterator[World]:
    async with world_on(make_client) as one:
        await one.pubsub.psubscribe("test:*")
        await one.pubsub.get_message(timeout=5)  # the confirmation: from here on nothing is missed
        yield one


@pytest.fixture
async def own(own_valkey: ValkeyServer) -> AsyncIterator[World]:
    """On a Valkey of its own, to be broken."""
    async with world_on(
        lambda: connect(own_valkey.url, answer_seconds=2),
        bare=lambda: redis.asyncio.Redis(port=own_valkey.port),  # with redis-py's own retries: it outlives restarts
    ) as one:
        yield one


async def command(server: ValkeyServer, *words: Any, password: str | None = None) -> None:
    client = connect(server.url, password=password)
    await client.execute_command(*words)
    await client.aclose()


def publish_later(world: World, *statuses: str, **fields: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(world.publish(*statuses, **fields))


def pauses_of_the_link(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it pauses before each probe, from now on."""
    pauses, sleep = [], asyncio.sleep

    async def noted(seconds: float) -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "ledger":
            pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", noted)
    return pauses
