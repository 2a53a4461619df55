"""A circuit breaker: while a store is down, one log at a time waits for it. Pure but for the clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobcast.logstore.base import UNAVAILABLE, LogStoreError

RETRY_SECONDS = 5.0
"""While a store is down, one log in so many seconds tries it; the events of the others do not wait."""
SILENT_SECONDS = 2.0
"""A store that has answered no request for so long gets no more of them, long before one times out. Otherwise each log of a
burst would wait for it and hold its bytes meanwhile."""


class CircuitBreaker:
    """Of one store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._error: LogStoreError | None = None
        self._next_try = 0.0
        self._pending = 0
        """Requests without an answer."""
        self._silent_since = 0.0

    def rejection(self) -> LogStoreError | None:
        """Why a request would fail now; None when it may succeed."""
        now = self._clock()
        if self._pending and now - self._silent_since >= SILENT_SECONDS:
            return LogStoreError(UNAVAILABLE, f"the log store has not answered for {SILENT_SECONDS:g} s")
        if self._error is not None and now < self._next_try:
            return LogStoreError(UNAVAILABLE, str(self._error))
        return None

    def check(self) -> None:
        """Call before a request. Raises LogStoreError when it would fail; lets one through when a retry is due."""
        if (error := self.rejection()) is not None:
            raise error
        if self._error is not None:
            self._next_try = self._clock() + RETRY_SECONDS

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around a request."""
        if not self._pending:
            self._silent_since = self._clock()
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    def record(self, error: LogStoreError | None) -> None:
        """Record how a request ended; None: the store answered."""
        if error is None or error.reason != UNAVAILABLE:
            self._silent_since = self._clock()
            self._error = None
        else:
            self._error = error
            self._next_try = self._clock() + RETRY_SECONDS
