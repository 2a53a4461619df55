"""Mirrors one kind in one namespace: list, then watch from there, for ever.

One loop, one switch over failures. Only the reflector retries a list or a watch.

| what happens | what the reflector does |
| --- | --- |
| the server ends the watch | watches on from the last version; the end says nothing about any Job |
| 410, as an answer or as an event | lists again and hands over the difference; with a pause if a list brings a 410, too |
| no byte for 90 s, connection cut, reset or refused | watches on from the last version after a short pause |
| 429, 5xx | the same after Retry-After, else after a longer pause |
| 401 | the same; the credentials have been read again |
| 403 | the same; the log names the RBAC rule that is missing |
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol

from jobcast import backoff
from jobcast.kube import Api, Change, Expired, Forbidden, KubeError, Page, Resource, Throttled, Unauthorized
from jobcast.kube.decode import T

log = logging.getLogger(__name__)

PAUSE_SECONDS = (0.05, 0.5)
"""First and longest pause after a failure, so that it watches again within half a second after the API server is up. A
refused connection costs neither side anything."""
REFUSED_PAUSE_SECONDS = (0.2, 5.0)
"""The same when the server answered 401, 403, 410, 429 or 5xx: it has work enough."""
PROVEN_SECONDS = 1.0
"""A watch that lasted so long, or brought something, has recovered, and earlier failures no longer count. An open watch alone
proves nothing: some servers and proxies open a watch and end it at once, again and again."""


class ReflectorStore(Protocol[T]):
    """Takes in what the reflector reads."""

    def begin(self) -> None:
        """A list starts. What it does not contain when `end` is called no longer exists."""

    async def page(self, items: list[T]) -> None: ...

    def end(self, version: str) -> None: ...

    def change(self, change: Change[T]) -> None: ...


class Source(Generic[T]):
    """The objects of one kind in a namespace (None: in all of them) that a label selector matches."""

    def __init__(self, api: Api, resource: Resource[T], namespace: str | None, selector: str) -> None:
        self.api = api
        self.resource: Resource[T] = resource
        self.namespace = namespace
        self.selector = selector

    def pages(self) -> AsyncGenerator[Page[T], None]:
        return self.api.pages(self.resource, self.namespace, self.selector)

    def watch(
        self, version: str, *, opened: Callable[[], None], received: Callable[[], None]
    ) -> AsyncGenerator[list[Change[T]], None]:
        return self.api.watch(self.resource, self.namespace, self.selector, version, opened=opened, received=received)

    def explain(self, error: KubeError) -> str:
        """What is wrong, and for a missing permission the rule that grants it."""
        if not isinstance(error, Forbidden):
            return str(error)
        where, role = (f"namespace {self.namespace}", "Role") if self.namespace else ("all namespaces", "ClusterRole")
        rule = self.resource.rule("list", "watch")
        return f"may not list and watch {self.resource.name} in {where}: add to its {role} the rule {rule} ({error})"


class WatchStatus:
    """How current a reflector's copy is. Times are this machine's monotonic clock."""

    def __init__(self, resource: str, namespace: str | None) -> None:
        self.resource = resource
        self.namespace = namespace or "*"
        self.error: str | None = "not listed yet"
        """Why the copy is not current; None while it is."""
        self.synced = asyncio.Event()
        """Set while a complete list has been read."""
        self.is_watching = False
        """Changes arrive as they happen. False while it lists or waits."""
        self.lists = 0
        """How many lists it has read to the end."""
        self.last_byte = time.monotonic()
        """When the API server last sent anything."""
        self.unanswered_since: float | None = None
        """Since when requests get no answer at all; None while the API server answers."""

    @property
    def age(self) -> float:
        """Seconds since the API server last sent anything."""
        return time.monotonic() - self.last_byte

    @property
    def unhealthy_reason(self) -> str | None:
        is_synced = self.error is None and self.synced.is_set()
        return None if is_synced else f"{self}: {self.error or 'not listed yet'}"

    def received(self) -> None:
        self.last_byte = time.monotonic()
        self.unanswered_since = None

    def __str__(self) -> str:
        return f"{self.resource} in {self.namespace}"


class Reflector(Generic[T]):
    """Waits for `after` before each list. Calls `on_restart` with the reason when a watch has ended, and `on_recovery`
    when the API server answers again."""

    def __init__(
        self,
        source: Source[T],
        store: ReflectorStore[T],
        *,
        after: asyncio.Event | None = None,
        on_restart: Callable[[str], None] = lambda reason: None,
        on_recovery: Callable[[], None] = lambda: None,
    ) -> None:
        self.source: Source[T] = source
        self.status = WatchStatus(source.resource.name, source.namespace)
        self._store: ReflectorStore[T] = store
        self._after = after
        self._on_restart = on_restart
        self._on_recovery = on_recovery
        self._version: str | None = None
        self._request: asyncio.Task[None] | None = None
        self._failures = 0
        self._opened = math.inf

    async def run(self) -> None:
        """Never returns, whatever the API server does. After a mistake of ours it starts with a list."""
        while True:
            self._request = asyncio.create_task(self._list_or_watch(), name=f"request {self.status.resource}")
            try:
                await asyncio.shield(self._request)
            except asyncio.CancelledError:
                me = asyncio.current_task()
                if me is not None and me.cancelling():  # this task is cancelled, not only the request
                    self._request.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await self._request
                    raise
                self._on_restart("relist")
            except Expired:
                self._version = None
                self._on_restart("expired")
                self._failures += 1
                if self._failures > 1:
                    await asyncio.sleep(backoff.pause(self._failures, REFUSED_PAUSE_SECONDS))
            except KubeError as error:
                await self._pause(error)
            except Exception:
                # A mistake of ours, perhaps half way through a change that no watch will bring again.
                self._version = None
                self.status.synced.clear()
                raise

    def relist(self) -> None:
        """List again now, whatever request is under way."""
        self._version = None
        self.status.synced.clear()
        if self._request is not None:
            self._request.cancel()

    async def _list_or_watch(self) -> None:
        if self._version is None:
            self._version = await self._list()
            self.status.synced.set()
        before = self._version
        self._opened = math.inf
        try:
            await self._watch(self._version)
        finally:
            self.status.is_watching = False
            is_proven = self._version != before or time.monotonic() - self._opened > PROVEN_SECONDS
            if is_proven:
                self._failures = 0
        self._on_restart("ended")
        if not is_proven:
            # An empty answer at once, of a proxy or of a server that shuts down: without a pause this would be a hot loop.
            raise KubeError("the watch ended as soon as it began")

    async def _list(self) -> str:
        if self._after is not None:
            await self._after.wait()
        self._store.begin()
        version = ""
        pages = self.source.pages()
        async with contextlib.aclosing(pages):
            # The next page is fetched while this one is worked on.
            coming = asyncio.ensure_future(anext(pages, None))
            try:
                while (page := await coming) is not None:
                    self.status.received()
                    coming = asyncio.ensure_future(anext(pages, None))
                    version = page.version
                    await self._store.page(page.items)
            finally:
                coming.cancel()
                # Awaited, else asyncio reports its failure as never retrieved.
                await asyncio.gather(coming, return_exceptions=True)
        self._store.end(version)
        self.status.lists += 1
        self.status.received()
        self._clear_error()
        return version

    async def _watch(self, version: str) -> None:
        batches = self.source.watch(version, opened=self._watch_opened, received=self.status.received)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                for change in batch:
                    self._version = change.version
                    if change.object is not None:
                        self._store.change(change)

    def _watch_opened(self) -> None:
        self._opened = self.status.last_byte = time.monotonic()
        self.status.is_watching = True
        self._clear_error()

    def _clear_error(self) -> None:
        if self.status.error is not None:
            self.status.error = None
            self._on_recovery()
            log.info("watching", extra={"resource": self.status.resource, "namespace": self.status.namespace})

    async def _pause(self, error: KubeError) -> None:
        status = self.status
        self._failures += 1
        if error.code:
            status.unanswered_since = None  # a refusal is an answer
        elif status.unanswered_since is None:
            status.unanswered_since = time.monotonic()
        self._on_restart(type(error).__name__.lower())
        is_refused = isinstance(error, Throttled | Forbidden | Unauthorized)
        pause = backoff.pause(self._failures, REFUSED_PAUSE_SECONDS if is_refused else PAUSE_SECONDS)
        if error.retry_after is not None:
            pause = max(pause, error.retry_after)
        text = self.source.explain(error)
        if text != status.error:  # once for each error, not for each try
            log.warning(
                "watch interrupted", extra={"resource": status.resource, "namespace": status.namespace, "why": text}
            )
        status.error = text
        await asyncio.sleep(pause)
