"""Sends the commands of many tasks over one connection, in shared round trips.

Only the batcher retries Redis. While Redis is unreachable every caller waits here, and the first answer releases them all.
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
"""Commands in one round trip: enough to share its cost, few enough that none waits long for the others."""
PROBE_SECONDS = (0.05, 0.5)
"""First and longest pause between probes while Redis is down: at two probes a second, its return is noticed within half a second."""
NOT_READY = (
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
"""Errors that concern Redis and not the command: the command waits and is sent again."""
_NOT_READY_ERRORS = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
)


class LedgerError(Exception):
    """Redis rejected this command: another program changed a key of Jobcast's, or its type."""


_Command = tuple[Any, ...]
_Call = tuple[_Command, "asyncio.Future[Any]"]


class _Health:
    """Whether Redis can be used, and the callbacks for when that changes."""

    def __init__(self, on_recovered: Callable[[], None], on_error: Callable[[str | None], None]) -> None:
        self.error: str | None = "not connected yet"
        self.is_down = False
        self._on_recovered = on_recovered
        self._on_error = on_error

    def fail(self, error: str) -> None:
        self.is_down = True
        self._set_error(error)

    def recover(self) -> None:
        self._set_error(None)
        if self.is_down:
            self.is_down = False
            self._notify(self._on_recovered)

    def _set_error(self, error: str | None) -> None:
        if error != self.error:
            self.error = error
            self._notify(self._on_error, error)

    @staticmethod
    def _notify(callback: Callable[..., None], *arguments: Any) -> None:
        """The event loop reports a bug of the callback, which must not end the batcher."""
        try:
            callback(*arguments)
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a callback of the Redis batcher failed", "exception": error}
            )


class Batcher:
    """Accepts commands between `start` and `close`. Loads `script` when Redis does not know it.

    `probe` is a command that writes: a Redis that is full, read-only or cannot save still answers PING. `on_recovered` is called
    when Redis accepts commands again after it was down; `on_error` with each new reason why it does not, and with None when it does.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        script: str,
        probe: _Command,
        on_recovered: Callable[[], None],
        on_error: Callable[[str | None], None],
    ) -> None:
        self._pipeline = Pipeline(client)
        self._script = script
        self._probe_command = probe
        self._health = _Health(on_recovered, on_error)
        self._calls: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._is_busy = False
        """An exchange is under way."""
        self._pause = PROBE_SECONDS[0]
        """Before the next probe; grows until Redis accepts a command."""
        self._is_closed = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush(), name="ledger")

    async def close(self) -> None:
        """Cancel the calls that still wait."""
        self._is_closed = True
        # Repeated: in Python 3.11 the wait_for around redis-py's sends may swallow a cancellation as it ends.
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.1)
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for _, future in self._calls:
            future.cancel()
        await self._pipeline.close()

    @property
    def error(self) -> str | None:
        """Why Redis cannot be used now; None while it can."""
        return self._health.error

    @property
    def is_down(self) -> bool:
        """Redis did not accept the last commands, and is probed before any others are sent. A probe that succeeds does not end
        this state: an account may write but not call scripts, and a network may lose the replies to some commands."""
        return self._health.is_down

    @property
    def waiting(self) -> int:
        """Commands that wait for the next exchange."""
        return len(self._calls)

    async def run(self, *command: Any) -> Any:
        """The answer to a command. Raises LedgerError. Sent at once while the connection is idle; otherwise with the next
        exchange, which the flushing task begins when the current one has ended."""
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
                again = await self._send([call])
                self._calls.extend(again)
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
                continue  # the exchange under way wakes this task when it ends
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
        batch = [call for call in batch if not call[1].done()]  # the caller was cancelled
        if not batch:
            return
        try:
            again = await self._send(batch)
        except BaseException:  # the batcher is closed
            for _, future in batch:
                future.cancel()
            raise
        self._calls.extendleft(reversed(again))

    async def _send(self, batch: list[_Call]) -> list[_Call]:
        """Send the batch and hand out the answers. Returns the calls to send again."""
        try:
            answers = await self._pipeline.exchange([command for command, _ in batch])
            missing = [i for i, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
            if missing:
                again = [("SCRIPT", "LOAD", self._script), *(batch[i][0] for i in missing)]
                loaded, *others = await self._pipeline.exchange(again)
                for i, answer in zip(missing, others, strict=True):
                    answers[i] = loaded if isinstance(loaded, Exception) else answer
        except ERRORS as error:
            self._health.fail(explain(error))
            return batch
        refused = []
        for call, answer in zip(batch, answers, strict=True):
            future = call[1]
            if future.done():
                continue
            if not isinstance(answer, Exception):
                future.set_result(answer)
            elif _is_not_ready(answer):
                self._health.fail(explain(answer))
                refused.append(call)
            else:
                future.set_exception(LedgerError(f"{call[0][0]}: {explain(answer)}"))
        if not refused:
            self._pause = PROBE_SECONDS[0]
            self._health.recover()
        return refused

    async def _probe_until_answered(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, PROBE_SECONDS[1])
            # Otherwise a caller that asks with a time limit would leave one more call behind each time.
            self._calls = deque(call for call in self._calls if not call[1].done())
            try:
                (answer,) = await self._pipeline.exchange([self._probe_command])
            except ERRORS as error:
                answer = error
            if not isinstance(answer, Exception):
                return
            self._health.fail(explain(answer))


def _is_not_ready(error: Exception) -> bool:
    if isinstance(error, _NOT_READY_ERRORS):
        return True
    text = explain(error)  # includes the code that redis-py removes
    return any(word in text for word in NOT_READY)
