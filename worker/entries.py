"""One stream entry from the start of its handlers to its acknowledgement, each step one atomic script."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import redis

from jobcast.keys import GROUP, Keys

SCRIPT = files("worker").joinpath("entry.lua").read_text()
LONGEST_TRACEBACK = 16_384
"""Bytes of a traceback that a dead letter keeps, its end: enough for dozens of frames, too little to fill Redis."""


class Entries:
    """What has ended and what has not, kept in Redis so that every process may ask. Raises redis errors as they come."""

    def __init__(self, client: "redis.Redis", keys: Keys, *, max_age: float, group: str = GROUP) -> None:
        self.client = client
        self.group = group
        self.keys = keys
        self._max_age = int(max_age)
        self._script = client.register_script(SCRIPT)

    def open(self, entry: str, wanting: Sequence[str]) -> tuple[list[str], list[str]]:
        """Of those who want the entry, the ones who have not ended; and others who have not, and are not known here.

        With nobody left the entry is acknowledged.
        """
        left, strangers = self._call(entry, "open", self._max_age, *wanting)
        return [_text(name) for name in left], [_text(name) for name in strangers]

    def start(self, entry: str, handler: str, consumer: str, attempt: str) -> int:
        """Which start of this handler this is, from 1; 0 when it has ended already. The entry is `consumer`'s now.

        `attempt` is unique to it: asked again, because the reply was lost, it is the same start.
        """
        return int(self._call(entry, "start", self._max_age, handler, consumer, attempt))

    def finish(self, entry: str, handler: str) -> bool:
        """The handler has ended; true when the entry is thereby acknowledged. Harmless when called again."""
        return bool(self._call(entry, "finish", handler))

    def bury(
        self, entry: str, handler: str, *, event: bytes | str, reason: str, traceback: str = "", tries: int = 0
    ) -> bool:
        """Put the event on the dead-letter stream and end the handler (with none named: the whole entry).

        False when a twin has ended it before; then no letter is written.
        """
        letter = {
            "entry": entry,
            "handler": handler,
            "reason": reason,
            "traceback": traceback[-LONGEST_TRACEBACK:],
            "tries": tries,
            "event": event,
        }
        fields = [part for item in letter.items() for part in item]
        return bool(self._call(entry, "bury", handler, self._max_age, *fields))

    def acknowledge(self, entries: Sequence[str]) -> None:
        """Of entries that nobody wants."""
        if entries:
            self.client.xack(self.keys.events, self.group, *entries)

    def _call(self, entry: str, operation: str, *arguments: Any) -> Any:
        keys = (self.keys.events, self.keys.todo(entry, self.group), self.keys.dead)
        return self._script(keys=keys, args=(operation, self.group, entry, *arguments))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
