"""The Lua scripts of a consumer group, each one atomic step, and many of them in one round trip."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple, Protocol

import redis.exceptions

_FOLDER = files("jobcast.delivery")
_SHARED = _FOLDER.joinpath("common.lua").read_text()


class Script:
    """A file beside this one, behind what all of them share."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = _SHARED + _FOLDER.joinpath(f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Call(NamedTuple):
    script: Script
    keys: Sequence[str]
    args: Sequence[Any]

    @property
    def command(self) -> tuple[Any, ...]:
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *map(_plain, self.args))


class Exchange(Protocol):
    """jobcast.redis.pipeline.Pipeline, or a fake."""

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]: ...


async def run(connection: Exchange, calls: Sequence[Call]) -> list[Any]:
    """What each call returned; they run in this order, in one round trip unless Redis does not know a script yet.

    Raises one of jobcast.redis.connection.ERRORS. Of several calls the others were made all the same, as far as the connection
    held; every script may be repeated.
    """
    if not calls:
        return []
    replies = await connection.exchange([call.command for call in calls])
    unknown = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
    if unknown:
        texts = {calls[i].script.text for i in unknown}
        loads = [("SCRIPT", "LOAD", text) for text in texts]
        again = await connection.exchange([*loads, *(calls[i].command for i in unknown)])
        for i, reply in zip(unknown, again[len(loads) :], strict=True):
            replies[i] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _plain(value: Any) -> str | bytes | int:
    return value if isinstance(value, str | bytes | int) else str(value)
