"""One connection, many commands: no command gets the reply to another."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.exceptions

from jobcast.redis.connection import ERRORS, connect
from jobcast.redis.pipeline import Pipeline
from testbed.ports import free_port
from testbed.valkey import ValkeyServer
from tests.conftest import eventually


@asynccontextmanager
async def piped(client: Any, answer_seconds: float = 5.0) -> AsyncIterator[Pipeline]:
    before = asyncio.all_tasks()
    pipe = Pipeline(client, answer_seconds=answer_seconds)
    try:
        yield pipe
    finally:
        await pipe.close()
        await client.aclose()
    assert not [task for task in asyncio.all_tasks() - before if task.get_name() == "redis guard"]


@pytest.fixture
async def pipe(make_client: Callable[[], Any]) -> AsyncIterator[Pipeline]:
    async with piped(make_client()) as one:
        yield one


@asynccontextmanager
async def server(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[int]:
    """A server that answers each read with `answer`; None closes the connection."""
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        serving.add(me)
        while data := await reader.read(65_536):
            if (reply := answer(data)) is None:
                break
            writer.write(reply)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await asyncio.gather(*serving)


async def test_replies_come_in_order_and_as_they_are(pipe: Pipeline) -> None:
    commands = [
        ("SET", "a", b"\xff\r\n"),
        ("GET", "a"),
        ("GET", "none"),
        ("INCR", "n"),
        ("RPUSH", "l", 1, 2.5),
        ("LRANGE", "l", 0, -1),
    ]
    assert await pipe.exchange(commands) == [b"OK", b"\xff\r\n", None, 1, 2, [b"1", b"2.5"]]


async def test_an_error_in_the_middle_costs_the_others_nothing(pipe: Pipeline) -> None:
    first, error, last = await pipe.exchange([("SET", "a", "1"), ("LPUSH", "a", "x"), ("GET", "a")])
    assert (first, last) == (b"OK", b"1")
    assert isinstance(error, redis.exceptions.ResponseError)
    assert await pipe.exchange([("GET", "a")]) == [b"1"]


async def test_thousands_of_commands_are_one_exchange(pipe: Pipeline) -> None:
    replies = await pipe.exchange([("SET", f"k{n}", "x" * 1000) for n in range(2000)])
    assert replies == [b"OK"] * 2000


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_exchange_does_not_spoil_the_next(pipe: Pipeline, turns: int) -> None:
    await pipe.exchange([("SET", "a", "right")])
    task = asyncio.create_task(pipe.exchange([("SET", "b", "x"), ("GET", "b"), ("GET", "b")]))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await pipe.exchange([("GET", "a")]) == [b"right"]


@pytest.mark.must_survive(2)
async def test_a_server_that_is_mute_from_the_start_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any moment: redis-py's own timeout was missed whenever it met the end of a send."""
    async with (
        server(lambda data: b"") as port,
        piped(connect(f"redis://127.0.0.1:{port}/0", answer_seconds=600)) as pipe,
        asyncio.timeout(60),
    ):
        for i in range(300):
            monkeypatch.setattr("jobcast.redis.pipeline.CONNECT_SECONDS", 0.0001 + i * 0.000005)
            with pytest.raises(ERRORS):
                await pipe.exchange([("GET", "a")])


async def test_a_server_that_hangs_up_is_an_error_and_the_next_exchange_connects_anew(valkey: ValkeyServer) -> None:
    async with piped(connect(valkey.url)) as pipe, piped(connect(valkey.url)) as other:
        await pipe.exchange([("SET", "a", "1")])
        await other.exchange([("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")])
        with pytest.raises(ERRORS):
            await pipe.exchange([("GET", "a")])
        assert await pipe.exchange([("GET", "a")]) == [b"1"]


async def test_a_closed_port_is_an_error() -> None:
    async with piped(connect(f"redis://127.0.0.1:{free_port()}/0")) as pipe, asyncio.timeout(60):
        for _ in range(2):
            with pytest.raises(ERRORS):
                await pipe.exchange([("GET", "a")])


async def test_a_server_that_is_not_redis_is_an_error() -> None:
    def http(data: bytes) -> bytes | None:
        return b"HTTP/1.1 400 Bad Request\r\n\r\n"

    async with server(http) as port, piped(connect(f"redis://127.0.0.1:{port}/0")) as pipe, asyncio.timeout(60):
        with pytest.raises(ERRORS):
            await pipe.exchange([("GET", "a")])


@pytest.mark.parametrize("size", [1, 50_000_000], ids=["reads nothing", "takes nothing"])
async def test_a_frozen_server_is_cut_and_used_again_when_it_thaws(own_valkey: ValkeyServer, size: int) -> None:
    assert own_valkey.process is not None
    async with piped(connect(own_valkey.url), answer_seconds=0.2) as pipe:
        await pipe.exchange([("SET", "a", "1")])
        own_valkey.process.send_signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                with pytest.raises(ERRORS):
                    await pipe.exchange([("SET", "b", b"x" * size)])
        finally:
            own_valkey.process.send_signal(signal.SIGCONT)

        async def answers() -> bool:
            return await pipe.exchange([("GET", "a")]) == [b"1"]

        assert await eventually(answers)
