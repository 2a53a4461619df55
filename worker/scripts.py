"""The Lua scripts of a group, each one atomic step, and many of them in one round trip."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import redis

_SHARED = files("worker").joinpath("ordering.lua").read_text()


class Script:
    """A file beside this one, behind what all of them share."""

    def __init__(self, name: str) -> None:
        self.text = _SHARED + files("worker").joinpath(name).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    script: Script
    keys: Sequence[str]
    args: Sequence[Any]


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def run(client: "redis.Redis", *calls: Call) -> list[Any]:
    """What each call returned; they run in this order, in one round trip unless Redis does not know a script yet.

    Raises what redis-py raises. Of several calls the others were made all the same, as far as the connection held.
    """
    replies = _try(client, calls)
    unknown = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
    if unknown:
        for script in {calls[i].script.text for i in unknown}:
            client.script_load(script)
        for i, reply in zip(unknown, _try(client, [calls[i] for i in unknown]), strict=True):
            replies[i] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _try(client: "redis.Redis", calls: Sequence[Call]) -> list[Any]:
    if len(calls) == 1:  # the most frequent, and slower in a pipeline
        (call,) = calls
        try:
            return [client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)]
        except redis.exceptions.NoScriptError as error:
            return [error]
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    return pipeline.execute(raise_on_error=False)
