"""A TLS server at this machine that remembers as whom each request came, and a proxy that remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.unit.certificates import Authority

Seen = dict[str, Any]


class SeenServer:
    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.seen: list[Seen] = []
        """Headers, certificate and server name of each request, in their order."""
        self.refuses: set[str] = set()
        """Bearer tokens and names of client certificates that get a 401."""
        self.url = ""
        self._names: dict[Any, str | None] = {}

    async def answer(self, request: web.Request) -> web.Response:
        transport = request.transport
        assert transport is not None
        peer = transport.get_extra_info("peercert") or {}
        name = next((value for ((key, value),) in peer.get("subject", ()) if key == "commonName"), None)
        headers = request.headers
        seen = {
            "path": request.path,
            "authorization": headers.get("Authorization"),
            "as": {key.lower(): headers.getall(key) for key in headers if key.lower().startswith("impersonate-")},
            "certificate": name,
            "server name": self._names.get(transport.get_extra_info("ssl_object")),
            "compressed": "gzip" in headers.get("Accept-Encoding", ""),
        }
        self.seen.append(seen)
        given = (headers.get("Authorization") or "").removeprefix("Bearer ")
        if given in self.refuses or name in self.refuses:
            return web.json_response({"kind": "Status", "code": 401, "message": "Unauthorized"}, status=401)
        if request.path.endswith("accessreviews"):
            return web.json_response({"status": {"allowed": True}}, status=201)
        return web.json_response({"gitVersion": "v1.34.0"})

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[SeenServer]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority.file)
        context.load_cert_chain(*self.authority.issue("server", "127.0.0.1", "other.example"))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.sni_callback = lambda connection, name, _: self._names.update({connection: name})
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def proxying(target: str) -> AsyncIterator[tuple[str, list[str]]]:
    """The URL of an HTTP proxy that leads every CONNECT to `target`, host:port; and the addresses that it was asked for."""
    asked: list[str] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(65536):
                writer.write(part)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split()[1].decode())
        there = await asyncio.open_connection(*target.split(":"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()


def script(file: Path, text: str) -> Path:
    """An executable with this text."""
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file
