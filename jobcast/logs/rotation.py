"""Detects that the kubelet rotated a container's log.

The API serves the current file only: after a rotation the earlier lines are missing, and nothing says so. Therefore the time
of the first line is recorded while the container runs. If the log begins with another line when it is read, it was rotated.
Not detected: a container that ends before the first check, or that prints nothing between two checks and then a lot.

Later checks tell whether the log has become large: its last LARGE_LINES lines begin with another line than the log.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Protocol

from jobcast.kube.errors import KubeError
from jobcast.logs.index import LogIndex
from jobcast.logstore.base import LogPlace
from jobcast.redis.batcher import LedgerError

CHECK_SECONDS = (3.0, 60.0)
"""First and longest pause between checks of a log that is still empty. The kubelet rotates files of 10 MiB and more, and looks
for them every 10 s; most evaluations that end before the first check print less."""
LARGE_LINES = 5000
"""A longer log is read while its container runs. The request returns one time, whatever the log's size. 5,000 lines of 100 bytes are
0.5 MB, and of a line without an end, which is counted in parts of 16 KiB, 80 MB."""
CONCURRENCY = 4
"""Checks at the same time: after a start with thousands of running Jobs they may take a while."""

Key = tuple[str, str, int]
"""Pod uid, container, and the number of restarts before this instance."""


class FirstLineSource(Protocol):
    """jobcast.kube.Api, or a fake."""

    async def first_line(self, namespace: str, pod: str, container: str, *, of_last: int | None = None) -> str:
        """The time of the first line of the log, or of so many last lines of it, RFC 3339; empty for an empty log."""
        ...


class Rotation:
    """Use as an async context manager: leaving it cancels the checks that are under way."""

    def __init__(
        self,
        source: FirstLineSource,
        index: LogIndex,
        *,
        clock: Callable[[], float] = time.monotonic,
        grown: Callable[[str], None] = lambda uid: None,
    ) -> None:
        """`grown` is called with a Job's uid when a log of it has become large."""
        self._source = source
        self._index = index
        self._clock = clock
        self._grown = grown
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._checks: dict[Key, tuple[float, float]] = {}
        """When a running container is checked next, infinity once its log is large; and the pause before that."""
        self._first: dict[Key, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Rotation":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def watch(self, key: Key, place: LogPlace) -> float | None:
        """Check the log of a running container if a check is due. Returns the seconds until the next call; None for no more calls."""
        now, (first, longest) = self._clock(), CHECK_SECONDS
        # Spread, so that the Jobs of a first list are not checked all at once.
        at, pause = self._checks.setdefault(key, (now + first * random.uniform(1, 1.5), first))  # noqa: S311
        if at <= now:
            # A log of an hour that becomes large is noticed within the next hour: few checks for many quiet containers.
            pause = pause * 2 if key in self._first else min(longest, pause * 2)
            at = now + pause
            self._checks[key] = (at, pause)
            task = asyncio.create_task(self._check(key, place), name=f"first line {place.source}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return at - now if at < inf else None

    def drop(self, key: Key) -> None:
        """The container does not run any more."""
        self._checks.pop(key, None)
        self._first.pop(key, None)

    def is_large(self, key: Key) -> bool:
        """Whether the log of a running container was found to be large."""
        return self._checks.get(key, (0.0, 0.0))[0] == inf

    async def is_rotated(self, key: Key, place: LogPlace, first: str) -> bool:
        """Whether the log, whose first line has this time, began with another line. False when that cannot be determined; raises
        nothing."""
        try:
            known = await self._index.first_line(place.uid, _instance(key))
        except LedgerError:
            return False
        return bool(known) and first != known

    async def _check(self, key: Key, place: LogPlace) -> None:
        async with self._slots:
            with suppress(KubeError, LedgerError):
                if (first := self._first.get(key)) is not None:
                    found = await self._source.first_line(
                        place.namespace, place.pod, place.container, of_last=LARGE_LINES
                    )
                    if found and found != first and key in self._checks:
                        self._checks[key] = (inf, 0.0)
                        self._grown(place.uid)
                elif (first := await self._find_first(key, place)) and key in self._checks:
                    self._first[key] = first

    async def _find_first(self, key: Key, place: LogPlace) -> str:
        if known := await self._index.first_line(place.uid, _instance(key)):
            return known
        first = await self._source.first_line(place.namespace, place.pod, place.container)
        if first:
            await self._index.record_first_line(place.uid, _instance(key), first)
        return first


def _instance(key: Key) -> str:
    return "/".join(map(str, key))
