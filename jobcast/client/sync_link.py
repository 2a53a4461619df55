"""Performs the effects of an operation with redis-py, for threads."""

import contextlib
import time
from typing import Any

import redis

from jobcast.client.effects import (
    Call,
    Chunk,
    Effect,
    Give,
    Listen,
    Open,
    Pause,
    Ping,
    Pipeline,
    Ready,
    Subscribe,
    options,
)
from jobcast.logstore.fetch import read_object


class Link:
    """Performs effects over a client's connection pool, with its own subscription."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client: Any = client  # redis-py's own types stop at execute_command
        self._pubsub: Any = None
        self._object: Any = None

    def perform(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return self._client.execute_command(*effect.arguments, **options(effect))
            case Pipeline():
                pipeline = self._client.pipeline(transaction=False)
                for call in effect.calls:
                    pipeline.execute_command(*call.arguments, **options(call))
                return pipeline.execute(raise_on_error=False)
            case Listen():
                return self._pubsub.get_message(timeout=effect.seconds)
            case Subscribe():
                self.close()
                self._pubsub = self._client.pubsub()
                self._pubsub.subscribe(*effect.channels)
            case Ping():
                self._pubsub.ping()
            case Pause():
                time.sleep(effect.seconds)
            case Open():
                self.close()
                self._object = read_object(effect.ref)
            case Chunk():
                return next(self._object, None)
            case Ready() | Give():
                pass
        return None

    def close(self) -> None:
        if self._object is not None:
            with contextlib.suppress(ValueError):  # another thread reads it, and closes it then
                self._object.close()
                self._object = None
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            pubsub.close()
