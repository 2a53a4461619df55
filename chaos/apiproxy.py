"""A proxy between each process and the API server: plain HTTP on our side, TLS and credentials on the other."""

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from chaos.certificates import Authority
from chaos.kubelet import Kubelet
from jobcast.kube.access import Access

PASSED = ("Accept", "Accept-Encoding", "Content-Type")
RETURNED = ("Content-Type", "Content-Encoding", "Content-Length", "Retry-After", "Date")
MESSAGES = {
    401: "Unauthorized",
    403: 'jobs.batch is forbidden: User "chaos" cannot watch resource "jobs" in API group "batch"',
    410: "The resourceVersion for the provided watch is too old.",
    429: "Too many requests, please try again later.",
    500: "Internal error occurred: chaos",
    503: "the server is currently unable to handle the request",
}


def refusal(code: int) -> bytes:
    reason = {401: "Unauthorized", 403: "Forbidden", 410: "Expired", 429: "TooManyRequests"}.get(code, "InternalError")
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code}
    return json.dumps({**status, "message": MESSAGES[code], "reason": reason}).encode()


class Severed(Exception):
    """The answer stops here: the client sees its connection reset."""


@dataclass(eq=False)
class Stream:
    """A watch that is under way."""

    request: web.Request
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    published: bytes = b""
    """The next and last line that it sends."""

    def cut(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


@dataclass
class Gate:
    """Which credentials a door takes; None: any."""

    token: str | None = None
    serial: int | None = None
    """Of the client's certificate, over TLS."""
    port: int = 0
    """For TLS."""
    passed: int = 0
    """Requests with the right credentials."""
    refused: int = 0
    """With others."""

    def takes(self, request: web.Request) -> bool:
        assert request.transport is not None
        shown = request.transport.get_extra_info("peercert") or {}
        serial, token = int(shown.get("serialNumber", "0"), 16), request.headers.get("Authorization", "")
        is_right = self.serial in (None, serial) and (self.token is None or token == f"Bearer {self.token}")
        self.passed += is_right
        self.refused += not is_right
        return is_right


class Door:
    """One process' connection to the API server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.gate = Gate()
        self.code: int | None = None
        """What every list and watch is answered with; 200 is an answer without a byte."""
        self.expiring = 0
        """How many of the next watches get the error that their resourceVersion is too old."""
        self.cuts_logs = False
        """The way from the API server to the kubelets breaks in the middle of each log; the API server ends the answer as if whole."""
        self.is_shut = False
        """Every connection is reset."""
        self.streams: set[Stream] = set()
        self.requests = 0
        self.bytes = 0
        """Of the answers' bodies, watches aside, as they were sent: compressed where the server does."""

    def cut(self) -> int:
        """Reset the watches that are open now; how many."""
        streams = list(self.streams)
        for stream in streams:
            stream.cut()
        return len(streams)

    def stall(self) -> None:
        """The open watches stop in the middle of their next line."""
        for stream in self.streams:
            stream.flowing.clear()

    def flow(self) -> None:
        for stream in self.streams:
            stream.flowing.set()

    def expire(self) -> None:
        """Send each open watch, as its next line, that its resourceVersion is too old."""
        for stream in self.streams:
            stream.published = b'{"type":"ERROR","object":' + refusal(410) + b"}\n"


class ApiProxy:
    def __init__(
        self, access: Access, names: tuple[str, ...], kubelet: Kubelet | None = None, authority: Authority | None = None
    ) -> None:
        """`kubelet` answers for the logs of its Pods in the API server's place. With an `authority` each door has a second port, for
        TLS and clients' certificates."""
        self._authority = authority
        self._access = access
        self._kubelet = kubelet
        self.doors = {name: Door(name) for name in names}
        self.unbound: set[str] = set()
        """Namespaces whose RoleBinding is deleted: requests are refused, and open watches go on."""
        self._by_port: dict[int, Door] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._access.ssl(), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        secure = None if self._authority is None else self._authority.server()
        for door in self.doors.values():
            door.port = await self._listen(door)
            if secure is not None:
                door.gate.port = await self._listen(door, secure)
        return self

    async def _listen(self, door: Door, secure: ssl.SSLContext | None = None) -> int:
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=secure).start()
        port: int = self._runner.addresses[-1][1]
        self._by_port[port] = door
        return port

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def write_kubeconfig(self, name: str, namespace: str, path: Path, *, token: str = "chaos", files: str = "") -> None:
        """For that part, by its door: with a token, or with the certificate in `files`.crt and .key beside the authority's."""
        door = self.doors[name]
        cluster, user = {"server": f"http://127.0.0.1:{door.port}"}, {"token": token}
        if files:
            assert self._authority is not None
            cluster = {
                "server": f"https://127.0.0.1:{door.gate.port}",
                "certificate-authority": str(self._authority.file),
            }
            user = {"client-certificate": f"{files}.crt", "client-key": f"{files}.key"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        }
        new = path.with_suffix(".new")
        new.write_text(json.dumps(config))
        new.rename(path)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            return web.Response()
        door = self._by_port[transport.get_extra_info("sockname")[1]]
        door.requests += 1
        if door.is_shut:
            transport.abort()
            return web.Response()
        if not door.gate.takes(request):
            return _spoiled(401)
        if any(f"/namespaces/{namespace}/" in f"{request.path}/" for namespace in self.unbound):
            return _spoiled(403)
        is_watch = "watch" in request.query
        if is_watch and door.expiring:
            door.expiring -= 1
            return _spoiled(410)
        is_log = request.path.endswith("/log")
        if door.code is not None and _is_meant(door.code, is_watch=is_watch, is_log=is_log):
            return _spoiled(door.code)
        try:
            if self._kubelet is not None and is_log:
                log = await self._kubelet.answer(request, lambda: door.cuts_logs)
                if log is not None:
                    return log
            return await self._pass_on(request, door, is_watch)
        except (aiohttp.ClientError, OSError, Severed):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    async def _pass_on(self, request: web.Request, door: Door, is_watch: bool) -> web.StreamResponse:
        headers = CIMultiDict({name: request.headers[name] for name in PASSED if name in request.headers})
        headers.update(await self._access.headers())
        url = self._access.host + request.path_qs
        async with self._session.request(
            request.method, url, headers=headers, data=await request.read(), allow_redirects=False
        ) as answer:
            returned = {name: answer.headers[name] for name in RETURNED if name in answer.headers}
            response = web.StreamResponse(status=answer.status, headers=returned)
            await response.prepare(request)
            if not is_watch:
                async for chunk in answer.content.iter_any():
                    door.bytes += len(chunk)
                    await response.write(chunk)
            else:
                await self._stream(request, door, answer, response)
            await response.write_eof()
            return response

    async def _stream(
        self, request: web.Request, door: Door, answer: aiohttp.ClientResponse, response: web.StreamResponse
    ) -> None:
        stream = Stream(request)
        stream.flowing.set()
        door.streams.add(stream)
        try:
            async for chunk in answer.content.iter_any():
                if stream.published:
                    await response.write(stream.published)
                    return
                if not stream.flowing.is_set():
                    half = len(chunk) // 2
                    await response.write(chunk[:half])
                    await stream.flowing.wait()
                    chunk = chunk[half:]
                await response.write(chunk)
        finally:
            door.streams.discard(stream)


def _is_meant(code: int, *, is_watch: bool, is_log: bool) -> bool:
    """410 is for those who come with a resourceVersion: a list would continue for ever. And an empty log is a log."""
    return is_watch if code == 410 else not is_log if code == 200 else True


def _spoiled(code: int) -> web.Response:
    if code == 200:
        return web.Response(content_type="application/json")
    if code == 429:
        return web.Response(status=code, text=MESSAGES[code] + "\n", headers={"Retry-After": "1"})
    return web.Response(status=code, body=refusal(code), content_type="application/json")
