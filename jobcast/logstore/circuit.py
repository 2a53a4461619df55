"""Remembers that a store is away, so that one log waits for it and not every one. Pure but for the clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobcast.logstore.base import UNAVAILABLE, ArchiveError

TRY_AGAIN_SECONDS = 5.0
"""While a store is away, one log in so many seconds tries it; the others are published at once."""
SILENT_SECONDS = 2.0
"""A store that was asked and has said nothing to anybody for so long is not asked by more, long before any request of it times out.
Otherwise each log of a burst would wait, and hold its bytes meanwhile."""


class Outage:
    """Of one store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._error: ArchiveError | None = None
        self._next_try = 0.0
        self._waiting = 0
        """Requests without an answer."""
        self._silent_since = 0.0

    def away(self) -> ArchiveError | None:
        """Why asking the store now would be in vain; None when it is worth trying."""
        now = self._clock()
        if self._waiting and now - self._silent_since >= SILENT_SECONDS:
            return ArchiveError(UNAVAILABLE, f"the log store has not answered for {SILENT_SECONDS:g} s")
        if self._error is not None and now < self._next_try:
            return ArchiveError(UNAVAILABLE, str(self._error))
        return None

    def check(self) -> None:
        """Before asking: raises ArchiveError when it would be in vain. Whoever tries a store that is away tries for all."""
        if (error := self.away()) is not None:
            raise error
        if self._error is not None:
            self._next_try = self._clock() + TRY_AGAIN_SECONDS

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around a request."""
        if not self._waiting:
            self._silent_since = self._clock()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def note(self, error: ArchiveError | None) -> None:
        """What came of asking the store; None: it answered."""
        if error is None or error.reason != UNAVAILABLE:
            self._silent_since = self._clock()
            self._error = None
        else:
            self._error = error
            self._next_try = self._clock() + TRY_AGAIN_SECONDS
