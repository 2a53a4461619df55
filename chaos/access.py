"""The harness' own access to the API server: it bypasses the faults and retries until it has an answer."""

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from jobcast.kube.access import Access

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"
PATIENCE_SECONDS = 600.0
"""A restarted API server may take minutes to be ready where everything else takes the CPU from it; a write that is given up
before would leave the truth unknown."""


class Refused(Exception):
    """The API server rejects this, and a retry would not help: a bug in the harness."""


class Cluster:
    """One namespace, deleted at the end. Every write can be repeated, because its answer may have been lost."""

    def __init__(self, access: Access, namespace: str) -> None:
        self.access = access
        self.namespace = namespace
        self.writes = 0

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self.access.ssl(), limit=64)
        timeout = aiohttp.ClientTimeout(total=30)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        try:
            await self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}}, passing=(409,))
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            async with asyncio.timeout(30):
                await self.ask("DELETE", f"/api/v1/namespaces/{self.namespace}", passing=(404, 409))
        finally:
            await self._session.close()

    @property
    def jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    async def ask(
        self,
        method: str,
        path: str,
        body: Obj | None = None,
        *,
        kind: str = "application/json",
        passing: tuple[int, ...] = (),
    ) -> tuple[int, Obj]:
        """The answer; a refusal named in `passing` is one. Raises Refused, and TimeoutError when there is no answer at all."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = 0.05
        while True:
            try:
                status, text = await self._once(method, path, body, kind)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                status, text = 0, str(error).encode()
            if 200 <= status < 300 or status in passing:
                self.writes += method != "GET"
                return status, msgspec.json.decode(text) if text[:1] == b"{" else {}
            if 400 <= status < 500 and status not in (401, 403, 408, 409, 429):
                raise Refused(f"{method} {path}: {status} {text[:500].decode(errors='replace')}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}: {status} {text[:500].decode(errors='replace')}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _once(self, method: str, path: str, body: Obj | None, kind: str) -> tuple[int, bytes]:
        headers = dict(await self.access.headers()) | {"Content-Type": kind}
        data = None if body is None else msgspec.json.encode(body)
        async with self._session.request(method, self.access.host + path, data=data, headers=headers) as response:
            return response.status, await response.read()
