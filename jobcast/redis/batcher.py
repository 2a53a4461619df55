"""Commands of many tasks over one connection: shared round trips, and one place that waits while Redis is away.

The link is the only one that retries Redis. While it is away every caller waits here, and the first answer releases them all.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import redis.asyncio
import redis.exceptions

from jobcast.redis.connection import ERRORS, explain
from jobcast.redis.pipeline import Pipeline

BATCH = 256
"""Commands in one round trip: enough to share its cost, few enough that none waits long behind the others."""
PROBE_SECONDS = (0.05, 0.5)
"""First and longest pause between probes while Redis is away: back within half a second, at two probes a second."""
LOST = (
    "OOM",
    "READONLY",
    "NOAUTH",
    "WRONGPASS",
    "LOADING",
    "MISCONF",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOPERM",
    "ACL failure",  # a permission again, of a command within a script
)
"""Refusals that are about Redis and not about the command: wait, do not give the Job up."""


_OF_REDIS = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
)


class LedgerError(Exception):
    """Redis refused this one command: a key of ours has another type, or somebody wrote into it."""


_Command = tuple[Any, ...]
_Call = tuple[_Command, "asyncio.Future[Any]"]


class Batcher:
    """Between `start` and `close` it takes commands. `script` is loaded when Redis does not know it.

    `probe` is a command that writes: a Redis that is full, read-only or cannot save answers PING gladly. `back` is called when
    Redis was away and has taken a command again, `trouble` with the reason, and with None when there is none any more.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        script: str,
        probe: _Command,
        back: Callable[[], None],
        trouble: Callable[[str | None], None],
    ) -> None:
        self.trouble: str | None = "not asked yet"
        """Why Redis cannot be used now; None while it can."""
        self._pipeline = Pipeline(client)
        self._script = script
        self._probe_command = probe
        self._back = back
        self._on_trouble = trouble
        self._calls: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._is_busy = False
        """An exchange is under way."""
        self.is_down = False
        """Redis did not take what it was sent last: it is to be probed before it is sent anything else. A probe that gets
        through proves nothing: an account may write and not call scripts, a network may lose the replies to some."""
        self._pause = PROBE_SECONDS[0]
        """Before the next probe; grows until Redis takes a command."""
        self._is_closed = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush(), name="ledger")

    async def close(self) -> None:
        """Whoever still waits is cancelled."""
        self._is_closed = True
        # Again and again: in Python 3.11 the wait_for that redis-py sends with may swallow a cancellation as it ends.
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.1)
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for _, future in self._calls:
            future.cancel()
        await self._pipeline.close()

    @property
    def waiting(self) -> int:
        """How many commands wait for the next exchange."""
        return len(self._calls)

    async def run(self, *command: Any) -> Any:
        """The answer to a command. Who finds the connection idle talks to Redis at once; whoever comes meanwhile shares the
        next exchange, which the flushing task begins when this one has ended."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = (command, future)
        if self._is_closed:
            future.cancel()
        elif self._is_busy or self._calls or self.is_down:
            self._calls.append(call)
            self._wake.set()
        else:
            self._is_busy = True
            try:
                if await self._send([call]):
                    self._calls.append(call)
                    self.is_down = True
            finally:
                self._is_busy = False
                if self._is_closed:
                    future.cancel()
                if self._calls:
                    self._wake.set()
        return await future

    async def _flush(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._is_busy:
                continue  # who talks to Redis now wakes us afterwards
            self._is_busy = True
            try:
                while self._calls:
                    if self.is_down:
                        await self._probe_until_answered()
                    await self._send_together()
            finally:
                self._is_busy = False

    async def _send_together(self) -> None:
        batch = [self._calls.popleft() for _ in range(min(BATCH, len(self._calls)))]
        batch = [call for call in batch if not call[1].done()]  # whoever asked has given up
        if not batch:
            return
        try:
            again = await self._send(batch)
        except BaseException:  # we are closed: nobody is to wait for what was under way
            for _, future in batch:
                future.cancel()
            raise
        if again:
            self._calls.extendleft(reversed(again))
            self.is_down = True

    async def _send(self, batch: list[_Call]) -> list[_Call]:
        """Send the batch and hand out its answers; returns the calls that Redis could not take."""
        try:
            answers = await self._pipeline.exchange([command for command, _ in batch])
            missing = [i for i, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
            if missing:
                again = [("SCRIPT", "LOAD", self._script), *(batch[i][0] for i in missing)]
                loaded, *others = await self._pipeline.exchange(again)
                for i, answer in zip(missing, others, strict=True):
                    answers[i] = loaded if isinstance(loaded, Exception) else answer
        except ERRORS as error:
            self._set_trouble(explain(error))
            return batch
        refused = []
        for call, answer in zip(batch, answers, strict=True):
            future = call[1]
            if future.done():
                continue
            if not isinstance(answer, Exception):
                future.set_result(answer)
            elif _is_about_redis(answer):
                self._set_trouble(explain(answer))
                refused.append(call)
            else:
                future.set_exception(LedgerError(f"{call[0][0]}: {explain(answer)}"))
        if not refused:
            self._is_there()
        return refused

    def _is_there(self) -> None:
        """Redis took what it was sent."""
        self._set_trouble(None)
        if self.is_down:
            self.is_down = False
            self._pause = PROBE_SECONDS[0]
            self._notify(self._back)

    async def _probe_until_answered(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, PROBE_SECONDS[1])
            # Who asks with a time limit, and again and again, is not to leave more behind each time.
            self._calls = deque(call for call in self._calls if not call[1].done())
            try:
                (answer,) = await self._pipeline.exchange([self._probe_command])
            except ERRORS as error:
                answer = error
            if not isinstance(answer, Exception):
                return
            self._set_trouble(explain(answer))

    @staticmethod
    def _notify(whom: Callable[..., None], *what: Any) -> None:
        """A mistake of theirs is the event loop's to report, and must not end the link."""
        try:
            whom(*what)
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "told of Redis, it failed", "exception": error}
            )

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._notify(self._on_trouble, trouble)


def _is_about_redis(error: Exception) -> bool:
    if isinstance(error, _OF_REDIS):
        return True
    text = explain(error)  # which has the code that redis-py takes off
    return any(word in text for word in LOST)
