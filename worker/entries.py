"""One stream entry from the start of its handlers to its acknowledgement, each step one atomic script."""

import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from jobcast.keys import GROUP, Keys
from jobcast.redis.connection import connect_plain
from worker.scripts import Call, Script, run, text
from worker.settings import WorkerSettings

SCRIPT = Script("entry.lua")
LONGEST_TRACEBACK = 16_384
"""Bytes of a traceback that a dead letter keeps, its end: enough for dozens of frames, too little to fill Redis."""


class Opened(NamedTuple):
    """How far an entry is with those that want it."""

    left: list[str]
    """Those that have not ended, and do not wait for a retry."""
    unknown: list[str]
    """Those that have not ended, and are not registered here."""
    waiting: int
    """How many wait for a retry that is already arranged."""


class Entries:
    """What has ended and what has not, in Redis, where every process may ask. Raises redis errors as they come."""

    def __init__(self, client: "redis.Redis", keys: Keys, *, max_age: float, group: str = GROUP) -> None:
        self.client = client
        self.group = group
        self.keys = keys
        self._max_age = int(max_age)

    def open(self, entry: str, wanting: Sequence[str]) -> Opened:
        """What is left of the entry for those that want it. If nothing is left, it is acknowledged."""
        (opened,) = self.open_all([(entry, wanting)])
        return opened

    def open_all(self, entries: Sequence[tuple[str, Sequence[str]]]) -> list[Opened]:
        """The same for many, in one round trip."""
        calls = [self._call(entry, "open", self._max_age, *wanting) for entry, wanting in entries]
        return [
            Opened([*map(text, left)], [*map(text, unknown)], waiting)
            for left, unknown, waiting in run(self.client, *calls)
        ]

    def start(self, entry: str, handler: str, consumer: str, attempt: str) -> int:
        """Which start of this handler this is, from 1; 0 when it has ended already. The entry is `consumer`'s now.

        `attempt` is unique to it: asked again, because the reply was lost, it is the same start.
        """
        return int(self._run(entry, "start", self._max_age, handler, consumer, attempt))

    def pause(self, entry: str, handler: str, seconds: float) -> None:
        """The handler failed, and is retried in so many seconds: until then the entry is not handed out to it again."""
        self._run(entry, "pause", handler, int(seconds * 1000))

    def finish(self, entry: str, handler: str) -> bool:
        """The handler has ended; true when that acknowledges the entry. A second call does nothing."""
        return bool(self._run(entry, "finish", handler))

    def finishing(self, entry: str, handler: str) -> Call:
        """The same, to run with others; without a handler it ends the whole entry."""
        return self._call(entry, "finish", handler)

    def dead_letter(
        self, entry: str, handler: str, *, event: bytes | str, reason: str, traceback: str = "", tries: int = 0
    ) -> bool:
        """Append the event to the dead letters and end the handler (without one: the whole entry).

        False when another task of the entry has ended it before; then there is no dead letter.
        """
        dead_letter = {
            "entry": entry,
            "handler": handler,
            "reason": reason,
            "traceback": traceback[-LONGEST_TRACEBACK:],
            "tries": tries,
            "event": event,
        }
        fields = [part for item in dead_letter.items() for part in item]
        return bool(self._run(entry, "dead_letter", handler, self._max_age, *fields))

    def _run(self, entry: str, operation: str, *arguments: Any) -> Any:
        (reply,) = run(self.client, self._call(entry, operation, *arguments))
        return reply

    def _call(self, entry: str, operation: str, *arguments: Any) -> Call:
        keys = self.keys
        of_group = (keys.events, keys.replays, keys.lanes(self.group))
        of_entry = (keys.todo(entry, self.group), keys.dead, keys.worker(""))
        return Call(SCRIPT, (*of_group, *of_entry), (self.group, operation, entry, *arguments))


class ProcessEntries:
    """The Entries of the process that calls it, on a connection of its own: none may cross a fork."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._made: tuple[int, Entries] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Entries:
        pid, settings = os.getpid(), self._settings
        with self._lock:
            if self._made is None or self._made[0] != pid:
                client = connect_plain(settings.redis_url, prefix=settings.key_prefix)
                self._made = pid, Entries(client, Keys(settings.key_prefix), max_age=settings.stream_max_seconds)
            return self._made[1]

    def after_fork(self) -> None:
        """In the new process: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()
