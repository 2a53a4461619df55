"""An answer on its way out: the one place where bytes leave, and so where faults spoil them."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from aiohttp import web

from devcluster.faults import GARBAGE, Fault, Faults
from devcluster.scheme import Target


class Severed(Exception):
    """The connection was cut on purpose; nothing more can be said on it."""


class Stream:
    """A response whose bytes pass through the fault that fell on it, if any."""

    def __init__(self, request: web.Request, faults: Faults, verb: str, target: Target, fault: Fault | None) -> None:
        self.verb = verb
        self.target = target
        self.wake = asyncio.Event()
        """Set when there is something to do: also the watch's own signal of new events."""
        self._request = request
        self._faults = faults
        self._response = web.StreamResponse()
        self._fault = fault
        self._struck: list[Fault] = []
        self._bytes = 0
        self._events = 0

    async def open(self, status: int, headers: dict[str, str]) -> None:
        self._response.set_status(status)
        self._response.headers.update(headers)
        self._response.headers["Cache-Control"] = "no-cache, private"
        await self._response.prepare(self._request)
        self._faults.streams.add(self)
        if self._fault and self._fault.after_bytes is None and self._fault.after_events is None:
            await self._flush()
            if not self._fault.mid_line:
                await self._suffer(self._fault)

    async def close(self) -> web.StreamResponse:
        await self._response.write_eof()
        return self._response

    def forget(self) -> None:
        self._faults.streams.discard(self)

    def strike(self, fault: Fault) -> None:
        self._struck.append(fault)
        self.wake.set()

    async def suffer_strikes(self) -> None:
        """Let what `strike` brought take effect; a stream that waits calls this whenever it is woken."""
        while self._struck:
            fault = self._struck.pop(0)
            if fault.mid_line:
                await self._response.write(b'{"type":"MODIFIED","object":{"kind":"')
            await self._suffer(fault)

    async def write(self, data: bytes) -> None:
        """Some bytes of the body."""
        fault = self._fault
        if fault and fault.after_bytes is not None and self._bytes + len(data) > fault.after_bytes:
            passing = fault.after_bytes - self._bytes
            await self._send(data[:passing])
            self._fault = None
            await self._suffer(fault)
            data = data[passing:]
        await self._send(data)

    async def write_event(self, line: bytes) -> None:
        """One whole line of a watch."""
        fault = self._fault
        if fault and fault.after_bytes is None and self._events >= (fault.after_events or 0):
            self._fault = None
            half = len(line) // 2 if fault.mid_line else 0
            await self._send(line[:half])
            await self._suffer(fault)
            line = line[half:]
        await self.write(line)
        self._events += 1

    @property
    def passes_freely(self) -> bool:
        """Whether lines may be joined into one write."""
        return self._fault is None and not self._struck

    async def _send(self, data: bytes) -> None:
        if data:
            await self._response.write(data)
            self._bytes += len(data)

    async def _flush(self) -> None:
        await self._response.write(b"")

    async def _suffer(self, fault: Fault) -> None:
        match fault.kind:
            case "stall":
                await (asyncio.Event().wait() if fault.seconds is None else asyncio.sleep(fault.seconds))
            case "cut":
                sever(self._request, rst=fault.rst)
                raise Severed
            case "expire":
                await self._send(EXPIRED)
                await self._response.write_eof()
                raise Severed
            case "garbage":
                await self._send(GARBAGE[fault.garbage])
            case "empty" | "status" | "end":
                await self._response.write_eof()
                raise Severed


EXPIRED = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"too old resource version: 1 (2)","reason":"Expired","code":410}}\n'
)


def sever(request: web.Request, *, rst: bool) -> None:
    """End the connection below HTTP: with a FIN after what was written, or with a reset."""
    transport = request.transport
    if transport is None:
        return
    if rst:
        raw = transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            # Linger on, for zero seconds: the kernel then answers with RST and drops what was not yet sent.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
