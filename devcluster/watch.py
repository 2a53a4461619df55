"""Watches: what was there, what happened since, what happens now, and bookmarks in between."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator

from devcluster.errors import ApiError, Obj, bad_request, invalid
from devcluster.query import flag
from devcluster.scheme import JOBS, PODS, Resource, Target
from devcluster.selectors import Matches, compile_selectors
from devcluster.store import Event, Store, encoder, watch_line
from devcluster.stream import Stream

_OPTIONS = Resource("meta.k8s.io", "v1", "", "", "ListOptions", False)
TOGETHER = 64
"""Lines joined into one write: quicker than one by one, and no large buffer."""

INITIAL_EVENTS_END = "k8s.io/initial-events-end"

# Go's zero values, which a real server cannot leave out of a bookmark.
_HOLLOW: dict[Resource, Obj] = {
    JOBS: {"spec": {"template": {"metadata": {}, "spec": {"containers": None}}}, "status": {}},
    PODS: {"spec": {"containers": None}, "status": {}},
}


def bookmark(resource: Resource, version: int, *, initial: bool = False) -> bytes:
    meta: Obj = {"resourceVersion": str(version)}
    if initial:
        meta["annotations"] = {INITIAL_EVENTS_END: "true"}
    return watch_line("BOOKMARK", resource, {"metadata": meta, **_HOLLOW.get(resource, {})})


def error_line(error: ApiError) -> bytes:
    return encoder.encode({"type": "ERROR", "object": error.body}) + b"\n"


def version_of(query: dict[str, str]) -> int:
    """The asked-for resourceVersion; 0 when there is none."""
    text = query.get("resourceVersion", "")
    if text and not text.isdigit():
        message = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise ApiError(500, message, reason="")
    return int(text or 0)


def timeout_of(query: dict[str, str]) -> float:
    """Seconds until the server ends the watch: asked for, or half an hour to an hour as on a real server."""
    text = query.get("timeoutSeconds") or "0"
    if not text.lstrip("-").isdigit():
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return float(text) if int(text) > 0 else 1800 * (1 + random.random())


class Watch:
    """One client's view of one collection, from a version on."""

    def __init__(self, store: Store, target: Target, query: dict[str, str], bookmark_seconds: float) -> None:
        self._store = store
        self._resource = target.resource
        self._namespace = target.namespace
        self._bookmark_seconds = bookmark_seconds if flag(query, "allowWatchBookmarks") else None
        self._matches: Matches | None = compile_selectors(
            target.resource, query.get("labelSelector", ""), _named(target, query.get("fieldSelector", ""))
        )
        self._version = version_of(query)
        self._timeout = timeout_of(query)
        if "sendInitialEvents" in query and query.get("resourceVersionMatch") != "NotOlderThan":
            why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise invalid(_OPTIONS, "", [("FieldValueForbidden", "resourceVersionMatch", why)])
        self._initial_end = flag(query, "sendInitialEvents") and self._bookmark_seconds is not None
        self._from_now = "sendInitialEvents" in query and not flag(query, "sendInitialEvents") and self._version == 0
        self._replay = self._version == 0 or flag(query, "sendInitialEvents")
        self._pending: deque[Event] = deque()
        self._sent = 0

    async def run(self, stream: Stream) -> None:
        """Send until the time is up; raises 410 as an ApiError before anything is sent, for the caller to wrap."""
        unsubscribe = self._store.subscribe(lambda event: self._notice(event, stream))
        try:
            lines = self._start()
            for place in range(0, len(lines), TOGETHER):
                await _write(stream, lines[place : place + TOGETHER])
            await self._follow(stream)
        finally:
            unsubscribe()

    def _notice(self, event: Event, stream: Stream) -> None:
        if event.resource is self._resource:
            self._pending.append(event)
            stream.wake.set()

    def _start(self) -> list[bytes]:
        """The lines that are due at once; events from now on are already being collected."""
        now = self._sent = self._store.version
        if self._from_now:
            return []
        if not self._replay:
            # A version from the future is no error here: a real server too stays silent until it is reached.
            self._sent = max(now, self._version)
            events = self._store.since(self._resource, self._version)
            return [line for event in events for line in self._lines(event)]
        lines = [
            watch_line("ADDED", self._resource, obj)
            for (namespace, _), obj in self._store.items(self._resource)
            if self._namespace in ("", namespace) and (self._matches is None or self._matches(obj))
        ]
        if self._initial_end:
            lines.append(bookmark(self._resource, now, initial=True))
        return lines

    def _lines(self, event: Event) -> Iterator[bytes]:
        """An event as this watcher should receive it: objects enter and leave its selection."""
        if self._namespace not in ("", event.new["metadata"].get("namespace", "")):
            return
        if self._matches is None:
            yield event.line(event.type)
            return
        did = event.old is not None and self._matches(event.old)
        does = event.type != "DELETED" and self._matches(event.new)
        if does:
            yield event.line("MODIFIED" if did else "ADDED")
        elif did:
            yield event.line("DELETED")

    async def _follow(self, stream: Stream) -> None:
        end = time.monotonic() + self._timeout
        last = end - 2  # a real server slips in a bookmark two seconds before the end, so that nothing is replayed
        mark = self._next_mark(last)
        while True:
            await stream.suffer_strikes()
            await _write(stream, [line for event in self._drain() for line in self._lines(event)])
            now = time.monotonic()
            if now >= end:
                return
            if now >= mark:
                await stream.write_event(bookmark(self._resource, self._sent))
                mark = self._next_mark(last)
            stream.wake.clear()
            if self._pending:
                continue
            try:
                await asyncio.wait_for(stream.wake.wait(), min(mark, end) - now)
            except TimeoutError:
                continue

    def _next_mark(self, last: float) -> float:
        """When the next bookmark is due, on the monotonic clock."""
        if self._bookmark_seconds is None:
            return float("inf")
        now = time.monotonic()
        if now >= last:
            return float("inf") if self._sent_last else self._mark_last(now)
        return min(now + self._bookmark_seconds, last)

    _sent_last = False

    def _mark_last(self, now: float) -> float:
        self._sent_last = True
        return now

    def _drain(self) -> list[Event]:
        events = [event for event in self._pending if event.version > self._sent]
        self._pending.clear()
        self._sent = max(self._sent, self._store.version)
        return events


async def _write(stream: Stream, lines: list[bytes]) -> None:
    if stream.passes_freely:
        if lines:
            await stream.write_event(b"".join(lines))
        return
    for line in lines:
        await stream.write_event(line)


def _named(target: Target, fields: str) -> str:
    """`?watch=1` on a single object, the old way of watching one: a field selector in disguise."""
    return ",".join(filter(None, (f"metadata.name={target.name}" if target.name else "", fields)))
