"""Remembers that a store is away, so that one log waits for it and not every one. Pure but for the clock."""

import time
from collections.abc import Callable

from jobcast.archive.base import UNAVAILABLE, ArchiveError

TRY_AGAIN_SECONDS = 5.0
"""While a store is away, one log in so many seconds tries it; the others are told at once."""


class Outage:
    """Of one store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._error: ArchiveError | None = None
        self._next_try = 0.0

    def check(self) -> None:
        """Raises ArchiveError while the store is away and it is not time to try it."""
        if self._error is None:
            return
        now = self._clock()
        if now < self._next_try:
            raise ArchiveError(UNAVAILABLE, str(self._error))
        self._next_try = now + TRY_AGAIN_SECONDS  # whoever asks next waits for what this one finds

    def note(self, error: ArchiveError | None) -> None:
        """What came of asking the store; None: it answered."""
        if error is None or error.reason != UNAVAILABLE:
            self._error = None
        else:
            self._error = error
            self._next_try = self._clock() + TRY_AGAIN_SECONDS
