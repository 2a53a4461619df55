"""A subscription to channels: it waits for confirmation, and detects a dead connection."""

import time
from collections import deque
from typing import Any, NamedTuple

import redis

from jobcast.client.effects import Listen, Operation, Ping, Subscribe
from jobcast.client.entry import data, text
from jobcast.redis.connection import ANSWER_SECONDS

QUIET_SECONDS = 10.0
"""Send a ping after so long without a message. With 5 s for the answer, a dead connection is detected within 15 s."""


class Message(NamedTuple):
    channel: str
    data: bytes


class Subscription:
    """Raises what redis-py raises when the connection is lost; then call `open` again. Messages sent meanwhile are lost."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self._channels = channels
        self._early: deque[Message] = deque()

    def open(self) -> Operation[None]:
        """Subscribe and wait until Redis has confirmed each channel: from then on no message is missed."""
        yield Subscribe(self._channels)
        missing = len(self._channels)
        deadline = time.monotonic() + ANSWER_SECONDS
        while missing:
            message = yield Listen(max(deadline - time.monotonic(), 0.0))
            if message is None:
                raise redis.TimeoutError("no answer to SUBSCRIBE")
            if message["type"] == "subscribe":
                missing -= 1
            else:  # from a channel that was confirmed before the others
                self._early.append(_message(message))

    def receive(self, seconds: float = float("inf")) -> Operation[Message | None]:
        """The next message; None after `seconds`, or after QUIET_SECONDS when the connection proved alive."""
        if self._early:
            return self._early.popleft()
        message = yield Listen(min(QUIET_SECONDS, seconds))
        if message is None:
            if seconds < QUIET_SECONDS:
                return None
            yield Ping()
            message = yield Listen(ANSWER_SECONDS)
            if message is None:
                raise redis.TimeoutError("the connection is open but does not answer")
        if message["type"] == "message":
            return _message(message)
        if message["type"] == "subscribe":
            raise redis.ConnectionError("redis-py reopened the connection")
        return None


def _message(message: dict[str, Any]) -> Message:
    return Message(text(message["channel"]), data(message["data"]) or b"")
