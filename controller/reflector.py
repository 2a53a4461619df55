"""Mirrors one kind in one namespace: list, then watch from there, for ever.

One loop, one switch over failures. The reflector is the one that retries a list or a watch; nobody else does.

| what happens | what is done |
| --- | --- |
| the server ends the watch | watch on from the last version; it says nothing about any Job |
| 410, as an answer or as an event | list again, and publish the difference; at once, unless that brought a 410 too |
| nothing for 90 s, cut, reset, refused | watch on from the last version, after a short pause |
| 429, 5xx | the same after Retry-After, else after a longer pause |
| 401 | the same; the credentials have been read anew |
| 403 | the same, and said plainly: a rule is missing |
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol

import structlog

from jobcast import backoff
from jobcast.kube import Api, Change, Expired, Forbidden, KubeError, Page, Resource, Throttled
from jobcast.kube.decode import T

log = structlog.get_logger()

PAUSE_SECONDS = (0.05, 0.5)
"""First and longest pause after a failure: back within half a second of the API server. A refused connection costs
neither side anything."""
ASKED_SECONDS = (0.2, 5.0)
"""The same when the server answered that it has too much to do, or that we may not: its work is to be spared."""
PROVEN_SECONDS = 1.0
"""A watch that lasted so long, or brought something, has recovered: the failures before it are forgotten. That it was
opened proves nothing: there are servers and proxies that open a watch and end it at once, for ever."""


class ReflectorStore(Protocol[T]):
    """Where what is mirrored goes."""

    def begin(self) -> None:
        """A list starts; what is not in it by `end` is gone."""

    async def page(self, items: list[T]) -> None: ...

    def end(self, version: str) -> None: ...

    def change(self, change: Change[T]) -> None: ...


class Reflector(Generic[T]):
    """`namespace` None is all of them. `after` is waited for before each list. `restarted` is called with the reason when
    a watch has ended, `well` when the API server answers again."""

    def __init__(
        self,
        api: Api,
        resource: Resource[T],
        namespace: str | None,
        selector: str,
        sink: ReflectorStore[T],
        *,
        after: asyncio.Event | None = None,
        restarted: Callable[[str], None] = lambda reason: None,
        well: Callable[[], None] = lambda: None,
    ) -> None:
        self.resource: Resource[T] = resource
        self.namespace = namespace
        self.trouble: str | None = "not listed yet"
        """Why it does not mirror now; None while it does."""
        self.synced = asyncio.Event()
        self.is_watching = False
        """Changes come in as they happen; False while it lists, or waits to."""
        self.lists = 0
        """How often it has listed to the end."""
        self.last_byte = time.monotonic()
        """When the API server was heard last, on this machine's monotonic clock."""
        self.in_vain_since: float | None = None
        """Since when it has asked and got no answer at all, on the monotonic clock; None while it gets answers."""
        self._api = api
        self._selector = selector
        self._sink: ReflectorStore[T] = sink
        self._after = after
        self._restarted = restarted
        self._on_well = well
        self._version: str | None = None
        self._turn: asyncio.Task[None] | None = None
        self._failures = 0
        self._opened = math.inf

    async def run(self) -> None:
        """Never ends by itself; what the API server does is no reason to. After a mistake of ours it begins with a list."""
        while True:
            self._turn = asyncio.create_task(self._list_or_watch(), name=f"turn {self.resource.name}")
            try:
                await asyncio.shield(self._turn)
            except asyncio.CancelledError:
                me = asyncio.current_task()
                if me is not None and me.cancelling():  # it is us who are to end, not only this turn
                    self._turn.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await self._turn
                    raise
                self._restarted("relist")
            except Expired:
                self._version = None
                self._restarted("expired")
                self._failures += 1
                if self._failures > 1:
                    await asyncio.sleep(backoff.pause(self._failures, ASKED_SECONDS))
            except KubeError as error:
                await self._pause(error)
            except Exception:
                # A mistake of ours, perhaps half way through a change that no watch will bring again.
                self._version = None
                self.synced.clear()
                raise

    def relist(self) -> None:
        """List again now, whatever is going on."""
        self._version = None
        self.synced.clear()
        if self._turn is not None:
            self._turn.cancel()

    def pages(self) -> AsyncGenerator[Page[T], None]:
        """What it lists; for whoever cannot wait for it."""
        return self._api.pages(self.resource, self.namespace, self._selector)

    async def _list_or_watch(self) -> None:
        if self._version is None:
            self._version = await self._list()
            self.synced.set()
        before = self._version
        self._opened = math.inf
        try:
            await self._watch(self._version)
        finally:
            self.is_watching = False
            is_proven = self._version != before or time.monotonic() - self._opened > PROVEN_SECONDS
            if is_proven:
                self._failures = 0
        self._restarted("ended")
        if not is_proven:
            # An answer without a line, at once: a proxy, or a server that is going down. Not to be asked in a hot loop.
            raise KubeError("the watch ended as soon as it began")

    async def _list(self) -> str:
        if self._after is not None:
            await self._after.wait()
        self._sink.begin()
        version = ""
        pages = self.pages()
        async with contextlib.aclosing(pages):
            # The next page is on its way while this one is worked on.
            coming = asyncio.ensure_future(anext(pages, None))
            try:
                while (page := await coming) is not None:
                    self._heard()
                    coming = asyncio.ensure_future(anext(pages, None))
                    version = page.version
                    await self._sink.page(page.items)
            finally:
                coming.cancel()
                # Awaited, else its own failure would be said to be nobody's.
                await asyncio.gather(coming, return_exceptions=True)
        self._sink.end(version)
        self.lists += 1
        self._heard()
        self._well()
        return version

    async def _watch(self, version: str) -> None:
        batches = self._api.watch(
            self.resource, self.namespace, self._selector, version, opened=self._begin, heard=self._heard
        )
        async with contextlib.aclosing(batches):
            async for batch in batches:
                for change in batch:
                    self._version = change.version
                    if change.object is not None:
                        self._sink.change(change)

    def _heard(self) -> None:
        self.last_byte = time.monotonic()
        self.in_vain_since = None

    def _begin(self) -> None:
        self._opened = self.last_byte = time.monotonic()
        self.is_watching = True
        self._well()

    def _well(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            self._on_well()
            log.info("watching", resource=self.resource.name, namespace=self.namespace or "*")

    async def _pause(self, error: KubeError) -> None:
        self._failures += 1
        if error.code:
            self.in_vain_since = None  # a refusal is an answer
        elif self.in_vain_since is None:
            self.in_vain_since = time.monotonic()
        self._restarted(type(error).__name__.lower())
        is_asked = isinstance(error, Throttled | Forbidden)
        pause = backoff.pause(self._failures, ASKED_SECONDS if is_asked else PAUSE_SECONDS)
        if error.retry_after is not None:
            pause = max(pause, error.retry_after)
        trouble = self._explain(error)
        # Once for each kind of trouble, not once for each try.
        if trouble != self.trouble:
            log.warning("watch interrupted", resource=self.resource.name, namespace=self.namespace or "*", why=trouble)
        self.trouble = trouble
        await asyncio.sleep(pause)

    def _explain(self, error: KubeError) -> str:
        if not isinstance(error, Forbidden):
            return str(error)
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces"
        role = "Role" if self.namespace else "ClusterRole"
        group = "batch" if self.resource.name == "jobs" else '""'
        return (
            f"may not list and watch {self.resource.name} {where}: add to its {role} the rule "
            f"apiGroups [{group}], resources [{self.resource.name}], verbs [get, list, watch] ({error})"
        )
