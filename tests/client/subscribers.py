"""Both clients behind one face, so that one test holds both to the same promise."""

import asyncio
import inspect
from typing import Any

from jobcast.client import AsyncClient, Client, Entry

Subscriber = Any
"""An AsyncClient, or a Threaded that behaves as one."""


class Threaded:
    """The plain client, each of its calls in a thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def aclose(self) -> None:
        await asyncio.to_thread(self._client.close)

    def events(self, *statuses: str, **options: Any) -> "ThreadedFeed":
        return ThreadedFeed(self._client.events(*statuses, **options))

    def stream(self, *arguments: Any, **options: Any) -> "ThreadedFeed":
        return ThreadedFeed(self._client.stream(*arguments, **options))

    def follow(self, *arguments: Any) -> "ThreadedFeed":
        return ThreadedFeed(self._client.follow(*arguments))

    def list(self, **conditions: Any) -> "ThreadedFeed":
        return ThreadedFeed(self._client.list(**conditions))

    def log(self, eval_id: str, **which: Any) -> "ThreadedFeed":
        return ThreadedFeed(self._client.log(eval_id, **which))

    def __getattr__(self, name: str) -> Any:  # get, wait, ping
        method = getattr(self._client, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return await asyncio.to_thread(method, *arguments, **options)

        return call


class ThreadedFeed:
    def __init__(self, feed: Any) -> None:
        self._feed = feed
        self._iterator: Any = None

    async def __aenter__(self) -> "ThreadedFeed":
        await asyncio.to_thread(self._feed.__enter__)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await asyncio.to_thread(self._feed.close)

    async def read(self) -> Any:  # of a log
        return await asyncio.to_thread(self._feed.read)

    def __aiter__(self) -> "ThreadedFeed":
        return self

    async def __anext__(self) -> Any:
        item = await asyncio.to_thread(next, self._feed, None)  # StopIteration cannot pass through a future
        if item is None:
            raise StopAsyncIteration
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)


def subscriber(kind: str, url: str, prefix: str, **options: Any) -> Subscriber:
    if kind == "plain":
        return Threaded(Client(url, prefix, **options))
    return AsyncClient(url, prefix, **options)


async def acked(entry: Entry[Any]) -> None:
    answer = entry.ack()
    if inspect.isawaitable(answer):
        await answer


async def take(feed: Any, count: int, timeout: float = 10.0) -> list[Any]:
    """The next `count` items."""
    async with asyncio.timeout(timeout):
        return [await anext(feed) for _ in range(count)]
