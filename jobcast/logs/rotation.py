"""Notices that the kubelet rotated a container's log.

The API shows the current file only: once it has been rotated, what was printed before is missing and nothing says so. So the
time of the first line is noted while the container runs; if the log begins with another line when it is read, it was
rotated. A container that ends before the first look, or prints nothing for longer than the looks are apart and then very
much, is not found out.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol

from jobcast.kube.errors import KubeError
from jobcast.logs.index import LogIndex
from jobcast.logstore.base import LogPlace
from jobcast.redis.batcher import LedgerError

LOOK_SECONDS = (3.0, 60.0)
"""First and longest pause between looks at a log that is still empty. The kubelet looks for files to rotate every 10 s, and
most evaluations that end sooner than the first look print less than 10 MiB, from which on it rotates."""
CONCURRENCY = 4
"""Looks at the same time: a start against thousands of running Jobs is in no hurry here."""

Key = tuple[str, str, int]
"""Pod uid, container, and how often it was restarted before."""


class FirstLineSource(Protocol):
    """jobcast.kube.Api, or a fake."""

    async def first_line(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
        """The time of the log's first line, RFC 3339; empty for a log that is."""
        ...


class Rotation:
    """Use as an async context manager: it ends the looks that are under way."""

    def __init__(self, source: FirstLineSource, book: LogIndex, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._book = book
        self._clock = clock
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._next: dict[Key, float] = {}
        """When a running container is to be looked at next; infinite once its first line is known."""
        self._pauses: dict[Key, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Rotation":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def watch(self, key: Key, place: LogPlace) -> float | None:
        """A container runs: look at its log when it is time. In how many seconds to call again; None for not at all."""
        now, first = self._clock(), LOOK_SECONDS[0]
        if key not in self._next:
            # Spread, so that the Jobs of a first list do not come all at once.
            self._next[key] = now + first * random.uniform(1, 1.5)  # noqa: S311
        elif self._next[key] <= now:
            pause = self._pauses[key] = min(LOOK_SECONDS[1], self._pauses.get(key, first) * 2)
            self._next[key] = now + pause
            task = asyncio.create_task(self._look(key, place), name=f"first line {place.source}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        left = self._next[key] - now
        return left if left != float("inf") else None

    def drop(self, key: Key) -> None:
        """It runs no more."""
        self._next.pop(key, None)
        self._pauses.pop(key, None)

    async def is_rotated(self, key: Key, place: LogPlace, *, previous: bool = False) -> bool:
        """Whether the log begins later than it did. False where nobody can know; raises nothing."""
        try:
            known = await self._book.first_line(place.uid, _instance(key))
            if not known:
                return False
            now = await self._source.first_line(place.namespace, place.pod, place.container, previous=previous)
        except (KubeError, LedgerError):
            return False
        return now != known

    async def _look(self, key: Key, place: LogPlace) -> None:
        async with self._slots:
            try:
                if not await self._book.first_line(place.uid, _instance(key)):
                    first = await self._source.first_line(place.namespace, place.pod, place.container)
                    if not first:
                        return
                    await self._book.note_first_line(place.uid, _instance(key), first)
            except (KubeError, LedgerError):
                return
        if key in self._next:
            self._next[key] = float("inf")


def _instance(key: Key) -> str:
    return "/".join(map(str, key))
