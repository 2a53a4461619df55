"""The proxies between the processes and Redis or the API server pass everything on, and fail what they are asked to fail."""

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from chaos.apiproxy import ApiProxy
from chaos.certificates import Authority
from chaos.kubelet import Kubelet, stamp
from chaos.redisproxy import WRITES, RedisProxy


class Echo:
    """A server that answers each read with itself, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def __aenter__(self) -> "Echo":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            self.heard.append(data)
            writer.write(data)
        writer.close()


async def ask(port: int, data: bytes) -> bytes:
    """The answer; empty when there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await reader.read(1024)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_replies_are_lost_after_the_write_and_those_alone():
    async with Echo() as redis, RedisProxy(("a", "b")) as proxy:
        await proxy.lead_to(redis.port)
        door = proxy.doors["a"]
        door.lose_reply_to(*WRITES, always=True)
        assert await ask(door.port, b"GET x") == b"GET x"
        assert await ask(proxy.doors["b"].port, b"EVALSHA y") == b"EVALSHA y"
        assert await ask(door.port, b"EVALSHA z") == b""
        assert redis.heard[-1] == b"EVALSHA z"
        assert await ask(door.port, b"EVALSHA z") == b""
        assert door.lost == 2
        door.lose_no_more()
        assert await ask(door.port, b"EVALSHA z") == b"EVALSHA z"


async def test_nothing_gets_through_where_the_doors_lead_nowhere():
    async with Echo() as redis, RedisProxy(("a",)) as proxy:
        assert await ask(proxy.doors["a"].port, b"PING") == b""
        await proxy.lead_to(redis.port)
        assert await ask(proxy.doors["a"].port, b"PING") == b"PING"


async def test_one_is_turned_away_while_another_gets_through():
    async with Echo() as redis, RedisProxy(("a", "b")) as proxy:
        await proxy.lead_to(redis.port)
        proxy.doors["a"].is_shut = True
        assert await ask(proxy.doors["a"].port, b"PING") == b""
        assert await ask(proxy.doors["b"].port, b"PING") == b"PING"


KUBELET = Kubelet()
LINES = [json.dumps({"type": "MODIFIED", "object": {"n": n}}).encode() + b"\n" for n in range(4)]


class Server:
    """Lists one thing, and tells a line of its watch whenever it is asked to."""

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer theirs"
        if "watch" not in request.query:
            return web.json_response({"items": [1]})
        response = web.StreamResponse()
        await response.prepare(request)
        for line in LINES:
            await self.go.acquire()
            await response.write(line)
        return response


@asynccontextmanager
async def proxied(
    authority: Authority | None = None,
) -> AsyncIterator[tuple[Server, ApiProxy, aiohttp.ClientSession, str]]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    async def headers() -> dict[str, str]:
        return {"Authorization": "Bearer theirs"}

    access: Any = SimpleNamespace(host=f"http://127.0.0.1:{runner.addresses[0][1]}", ssl=lambda: False, headers=headers)
    async with ApiProxy(access, ("a", "b"), KUBELET, authority) as proxy, aiohttp.ClientSession() as session:
        yield server, proxy, session, f"http://127.0.0.1:{proxy.doors['a'].port}"
    await runner.cleanup()


@pytest.mark.parametrize("code", [401, 403, 429, 500, 503])
async def test_every_client_of_that_door_gets_the_set_answer(code: int):
    async with proxied() as (_, proxy, session, url):
        proxy.doors["a"].code = code
        async with session.get(f"{url}/jobs") as answer:
            assert answer.status == code
            assert (answer.headers.get("Retry-After") == "1") == (code == 429)
        async with session.get(f"http://127.0.0.1:{proxy.doors['b'].port}/jobs") as answer:
            assert await answer.json() == {"items": [1]}
        proxy.doors["a"].code = None
        async with session.get(f"{url}/jobs") as answer:
            assert await answer.json() == {"items": [1]}


async def test_a_watch_gets_the_error_that_its_version_is_too_old_and_a_list_does_not():
    async with proxied() as (_, proxy, session, url):
        proxy.doors["a"].code = 410
        async with session.get(f"{url}/jobs") as answer:
            assert answer.status == 200
        async with session.get(f"{url}/jobs?watch=true") as answer:
            assert answer.status == 410


async def test_a_watch_stops_in_the_middle_of_a_line_and_goes_on():
    async with proxied() as (server, proxy, session, url), session.get(f"{url}/jobs?watch=true") as watch:
        server.go.release()
        assert await watch.content.readline() == LINES[0]
        proxy.doors["a"].stall()
        server.go.release()
        half = await watch.content.readany()
        assert LINES[1].startswith(half) and len(half) < len(LINES[1])
        proxy.doors["a"].flow()
        assert half + await watch.content.readline() == LINES[1]


async def test_a_watch_is_cut_and_one_learns_that_it_is_too_old():
    async with proxied() as (server, proxy, session, url):
        async with session.get(f"{url}/jobs?watch=true") as watch:
            server.go.release()
            await watch.content.readline()
            assert proxy.doors["a"].cut() == 1
            with pytest.raises(aiohttp.ClientError):
                await watch.content.read()
        async with session.get(f"{url}/jobs?watch=true") as watch:
            server.go.release()
            await watch.content.readline()
            proxy.doors["a"].expire()
            server.go.release()
            published = json.loads(await watch.content.readline())
            assert (published["type"], published["object"]["code"]) == ("ERROR", 410)
            assert await watch.content.read() == b""


async def test_so_many_of_the_coming_watches_are_too_old():
    async with proxied() as (_, proxy, session, url):
        proxy.doors["a"].expiring = 2
        found = []
        for _ in range(3):
            async with session.get(f"{url}/jobs?watch=true") as watch:
                found.append(watch.status)
        assert found == [410, 410, 200]


async def test_the_log_of_a_pod_is_there_from_its_start_until_it_is_removed():
    async with proxied() as (_, proxy, session, url):
        path = f"{url}/api/v1/namespaces/any/pods/job-1/log"

        async def ask(**query: str) -> tuple[int, bytes]:
            async with session.get(path, params={"container": "evaluation", **query}) as answer:
                return answer.status, await answer.read()

        assert (await ask())[0] == 404
        KUBELET.start("job-1")
        KUBELET.end("job-1")
        status, log = await ask()
        assert status == 200
        assert hashlib.sha256(log).hexdigest() == KUBELET.sha256("job-1")
        assert (await ask(timestamps="true", limitBytes="40"))[1] == (stamp(0).encode() + log)[:40]
        proxy.doors["a"].code = 200  # nobody could tell it from a log without a byte
        assert await ask() == (200, log)
        proxy.doors["a"].code = 500
        assert (await ask())[0] == 500
        proxy.doors["a"].code = None
        KUBELET.remove("job-1")
        assert (await ask())[0] == 404


async def test_a_log_grows_until_its_container_ends_and_is_asked_for_in_parts():
    async with proxied() as (_, _, session, url):
        path = f"{url}/api/v1/namespaces/any/pods/job-7/log"

        async def ask(**query: str) -> bytes:
            async with session.get(path, params=query) as answer:
                return await answer.read()

        KUBELET.start("job-7")
        whole = KUBELET.log("job-7")
        lines = whole.splitlines(keepends=True)
        half = await ask()
        assert whole.startswith(half) and 0 < len(half) < len(whole)
        async with session.get(path, params={"follow": "true"}) as answer:
            assert await answer.content.readexactly(len(half)) == half
            KUBELET.end("job-7")
            assert half + await answer.content.read() == whole
        assert await ask(tailLines="1") == lines[-1]
        last = stamp(len(lines) - 1)
        assert await ask(tailLines="1", timestamps="true") == last.encode() + lines[-1]
        assert await ask(sinceTime=last.strip()) == lines[-1]
        assert await ask(sinceTime="2027-01-01T00:00:00Z") == b""


async def test_a_log_that_is_cut_ends_as_if_it_were_whole():
    async with proxied() as (_, proxy, session, url):
        path = f"{url}/api/v1/namespaces/any/pods/job-8/log"
        KUBELET.start("job-8")
        whole = KUBELET.log("job-8")
        async with session.get(path, params={"follow": "true"}) as followed:
            await followed.content.readany()
            proxy.doors["a"].cuts_logs = True
            assert len(await followed.content.read()) < len(whole)  # while its container prints
        KUBELET.end("job-8")
        for query in ({}, {"follow": "true"}):
            async with session.get(path, params=query) as answer:
                assert answer.status == 200
                half = await answer.read()
                assert whole.startswith(half) and 0 < len(half) < len(whole)
        proxy.doors["a"].cuts_logs = False
        async with session.get(path) as answer:
            assert await answer.read() == whole


async def test_a_token_that_was_renewed_is_refused_from_then_on():
    async with proxied() as (_, proxy, session, url):
        gate = proxy.doors["a"].gate

        async def ask(token: str) -> int:
            async with session.get(f"{url}/jobs", headers={"Authorization": f"Bearer {token}"}) as answer:
                return answer.status

        assert (await ask("old"), gate.passed) == (200, 1)
        gate.token = "new"
        assert (await ask("old"), gate.passed) == (401, 1)
        assert (await ask("new"), gate.passed) == (200, 2)


async def test_a_certificate_that_was_renewed_is_refused_also_on_its_old_connection(tmp_path: Path):
    authority = Authority(tmp_path)
    async with proxied(authority) as (_, proxy, _, _):
        gate = proxy.doors["a"].gate

        def connector() -> aiohttp.TCPConnector:
            context = ssl.create_default_context(cafile=authority.file)
            context.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
            return aiohttp.TCPConnector(ssl=context)

        async def ask(session: aiohttp.ClientSession) -> int:
            async with session.get(f"https://127.0.0.1:{gate.port}/jobs") as answer:
                return answer.status

        gate.serial = authority.issue("client")
        async with aiohttp.ClientSession(connector=connector()) as old:
            assert await ask(old) == 200
            gate.serial = authority.issue("client")
            assert await ask(old) == 401
            async with aiohttp.ClientSession(connector=connector()) as new:
                assert await ask(new) == 200


async def test_whose_rolebinding_is_deleted_is_refused_and_its_watches_go_on():
    async with proxied() as (server, proxy, session, url):
        path = f"{url}/apis/batch/v1/namespaces/gone/jobs"
        async with session.get(f"{path}?watch=true") as watch:
            proxy.unbound.add("gone")
            for refused in (path, f"{path}/job-1", f"{url}/api/v1/namespaces/gone"):
                async with session.get(refused) as answer:
                    assert answer.status == 403
            async with session.get(f"{url}/apis/batch/v1/namespaces/gone-not/jobs") as answer:
                assert answer.status == 200
            server.go.release()
            assert await watch.content.readline() == LINES[0]


async def test_nothing_gets_through_a_door_that_is_shut():
    async with proxied() as (_, proxy, session, url):
        proxy.doors["a"].is_shut = True
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{url}/jobs")
