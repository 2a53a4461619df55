"""A subscription to channels that is confirmed before it is relied on, and found out when it is mute."""

import time
from collections import deque
from typing import Any, NamedTuple

import redis

from jobcast.client.effects import Listen, Ping, Program, Subscribe
from jobcast.client.entry import data, text
from jobcast.redis.connection import ANSWER_SECONDS

QUIET_SECONDS = 10.0
"""After so long without a message, ask for a sign of life. With the answer's 5 s a dead link is noticed within 15 s."""


class Message(NamedTuple):
    channel: str
    data: bytes


class Subscription:
    """Raises what redis-py raises when the connection is lost; open it anew then. What was told meanwhile is gone."""

    def __init__(self, channels: tuple[str, ...]) -> None:
        self._channels = channels
        self._early: deque[Message] = deque()

    def open(self) -> Program[None]:
        """Subscribe, and wait until Redis has confirmed each channel: from then on nothing escapes."""
        yield Subscribe(self._channels)
        missing = len(self._channels)
        deadline = time.monotonic() + ANSWER_SECONDS
        while missing:
            message = yield Listen(max(deadline - time.monotonic(), 0.0))
            if message is None:
                raise redis.TimeoutError("no answer to SUBSCRIBE")
            if message["type"] == "subscribe":
                missing -= 1
            else:  # of a channel that was confirmed before the others
                self._early.append(_message(message))

    def hear(self, seconds: float = float("inf")) -> Program[Message | None]:
        """The next message; None after a quiet while, at most `seconds`, or QUIET_SECONDS and the line proved alive."""
        if self._early:
            return self._early.popleft()
        message = yield Listen(min(QUIET_SECONDS, seconds))
        if message is None:
            if seconds < QUIET_SECONDS:
                return None
            yield Ping()
            message = yield Listen(ANSWER_SECONDS)
            if message is None:
                raise redis.TimeoutError("the connection is open and mute")
        if message["type"] == "message":
            return _message(message)
        if message["type"] == "subscribe":
            raise redis.ConnectionError("the connection was made anew behind our back")
        return None


def _message(message: dict[str, Any]) -> Message:
    return Message(text(message["channel"]), data(message["data"]) or b"")
