"""Keys to be reconciled: each once, however often it is added, and never by two workers at the same time.

As in client-go: first come, first served; many adds are one reconcile; a key added while it is being reconciled comes again
afterwards. Two sets and a list, and timers for later keys.
"""

import asyncio
from collections import deque

from jobcast.backoff import pause

BACKOFF_SECONDS = (0.1, 2.0)
"""After an error, first and longest. Low, because the cause is the API server or the Job, and both change. An outage of Redis
never gets here: the ledger waits until it is over. One of the API server ends for all keys at once, see `release`."""


class Workqueue:
    """Use it from one event loop. `get` waits. Call `done` for every key that `get` returned."""

    def __init__(self) -> None:
        self._keys: deque[str] = deque()
        self._dirty: dict[str, float] = {}
        """Keys that wait or come again, with the time at which they were first added."""
        self._processing: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._released: set[str] = set()
        """Keys that `release` adds: they failed because of the API server."""
        self._getters: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self.taken = 0
        """How many keys `get` has returned."""

    def add(self, key: str) -> None:
        if key in self._dirty:
            return
        self._dirty[key] = self._loop.time()
        if key not in self._processing:
            self._keys.append(key)
            self._wake()

    def add_after(self, key: str, seconds: float) -> None:
        """Add it after so many seconds. The earlier of two times counts."""
        due = self._loop.time() + seconds
        known = self._timers.get(key)
        if known is not None:
            if known.when() <= due:
                return
            known.cancel()
        self._timers[key] = self._loop.call_at(due, self._fire, key)

    def retry(self, key: str, *, shared: bool = False) -> None:
        """Add it after a pause that doubles with every failure, jittered. `shared`: it failed because of the API server, and
        `release` adds it earlier."""
        if shared:
            self._released.add(key)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, pause(failures, BACKOFF_SECONDS))

    def forget(self, key: str) -> None:
        """It succeeded: the next failure counts as the first, and the API server may be up for all keys."""
        self._failures.pop(key, None)
        if key in self._released:
            self.release()

    def release(self) -> None:
        """The API server is up: add all keys now that failed because of it."""
        released, self._released = self._released, set()
        for key in released:
            if (timer := self._timers.pop(key, None)) is not None:
                timer.cancel()
                self.add(key)

    async def room(self, keys: int) -> None:
        """Wait until no more than so many keys wait. Polls every few milliseconds: it is for bursts."""
        while len(self._keys) > keys:
            await asyncio.sleep(0.002)

    async def get(self) -> tuple[str, float]:
        """The next key, and the loop time at which it was added."""
        while not self._keys:
            future = self._loop.create_future()
            self._getters.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if not future.cancelled() and self._keys:
                    self._wake()  # this getter was woken for a key and is cancelled: the next one takes it
                raise
        key = self._keys.popleft()
        self._processing.add(key)
        self.taken += 1
        return key, self._dirty.pop(key)

    def done(self, key: str) -> None:
        self._processing.discard(key)
        if key in self._dirty:
            self._keys.append(key)
            self._wake()

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    @property
    def is_idle(self) -> bool:
        return not self._keys and not self._processing

    def __len__(self) -> int:
        return len(self._keys)

    def _fire(self, key: str) -> None:
        del self._timers[key]
        self.add(key)

    def _wake(self) -> None:
        while self._getters:
            future = self._getters.popleft()
            if not future.done():
                future.set_result(None)
                return
