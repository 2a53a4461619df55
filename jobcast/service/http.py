"""`/livez`, `/readyz`, `/metrics` and `/statusz` over HTTP.

Alive: a restart would not help. Ready: the stores are filled and Redis answers, so what happens now is told now. What is wrong
beside that follows the `ok`, a line each.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Check = Callable[[], str | None]
"""Why not, or None when all is well."""


class PortTaken(Exception):
    """The address cannot be served on."""


class ProbeServer:
    """The server. Use as an async context manager; `port` is the one it got."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        alive: Check,
        ready: Check,
        warnings: Callable[[], list[str]],
        status: Callable[[], Any],
        registry: CollectorRegistry,
    ) -> None:
        self.port = port
        self._host = host
        self._alive = alive
        self._ready = ready
        self._warnings = warnings
        self._status = status
        self._registry = registry

    async def __aenter__(self) -> "ProbeServer":
        """Raises PortTaken."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/statusz", self._statusz)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise PortTaken(f"HTTP_PORT: cannot serve on {self._host}:{self.port}: {error.strerror}") from error
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return _answer(self._alive())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._ready(), self._warnings())

    async def _statusz(self, _request: web.Request) -> web.Response:
        body = msgspec.json.format(msgspec.json.encode(self._status(), enc_hook=str), indent=2)
        return web.Response(body=body + b"\n", content_type="application/json")

    async def _metrics(self, _request: web.Request) -> web.Response:
        # Hundreds of label sets take tens of milliseconds to render: not on the event loop.
        body = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(why_not: str | None, warnings: Sequence[str] = ()) -> web.Response:
    lines = ["ok" if why_not is None else why_not, *(f"warning: {one}" for one in warnings)]
    return web.Response(text="\n".join(lines) + "\n", status=200 if why_not is None else 503)
