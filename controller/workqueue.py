"""Keys to be reconciled: each once, however often it is added, and never by two at the same time.

As client-go's: fair (in the order of adding), stingy (one reconcile for many adds), and a key added while it is being
reconciled comes again afterwards. Two sets and a list, and timers for what is due later.
"""

import asyncio
from collections import deque

from jobcast.backoff import pause

BACKOFF_SECONDS = (0.1, 2.0)
"""After an error, first and longest. Low, because keys fail for what the API server or the Job is, and both change; an
outage of Redis never gets here, the ledger waits it out. One of the API server ends for all keys at once, see `release`."""


class Workqueue:
    """Use from one event loop. `get` waits; every key got must be given back with `done`."""

    def __init__(self) -> None:
        self._keys: deque[str] = deque()
        self._dirty: dict[str, float] = {}
        """Keys that wait or are to come again, with the time of their first adding."""
        self._processing: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._released: set[str] = set()
        """Keys that `release` adds: they failed for what they all share."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self.taken = 0
        """How many keys were ever got."""

    def add(self, key: str) -> None:
        if key in self._dirty:
            return
        self._dirty[key] = self._loop.time()
        if key not in self._processing:
            self._keys.append(key)
            self._wake()

    def add_after(self, key: str, seconds: float) -> None:
        """Add it then; the earlier of two such wishes holds."""
        due = self._loop.time() + seconds
        known = self._timers.get(key)
        if known is not None:
            if known.when() <= due:
                return
            known.cancel()
        self._timers[key] = self._loop.call_at(due, self._fire, key)

    def retry(self, key: str, *, shared: bool = False) -> None:
        """Add it after a pause that doubles with every failure, jittered. `shared`: not the key failed, but the API server,
        and no key is to wait on when that is back."""
        if shared:
            self._released.add(key)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, pause(failures, BACKOFF_SECONDS))

    def forget(self, key: str) -> None:
        """It went well: the next failure is the first again, and what all of them share may be well too."""
        self._failures.pop(key, None)
        if key in self._released:
            self.release()

    def release(self) -> None:
        """The API server answers: add all keys now that wait because it did not."""
        released, self._released = self._released, set()
        for key in released:
            if (timer := self._timers.pop(key, None)) is not None:
                timer.cancel()
                self.add(key)

    async def room(self, keys: int) -> None:
        """Wait until no more than so many keys wait. Looks every few milliseconds: it is for bursts."""
        while len(self._keys) > keys:
            await asyncio.sleep(0.002)

    async def get(self) -> tuple[str, float]:
        """The next key, and the loop time at which it was added."""
        while not self._keys:
            future = self._loop.create_future()
            self._waiting.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if not future.cancelled() and self._keys:
                    self._wake()  # we were woken and cannot take it: the next one may
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
        """Nothing is due later any more."""
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
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
