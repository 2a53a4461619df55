"""What our account in Redis may do: asked of Redis without doing it, else tried in a way that changes nothing."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from jobcast.doctor.finding import Finding, broken, ok, unknown
from jobcast.keys import Keys

if TYPE_CHECKING:
    import redis.asyncio

_Command = tuple[Any, ...]


def _rights(keys: Keys) -> dict[str, tuple[_Command, ...]]:
    """By who needs it, commands of theirs that change nothing: keys and groups of these names there are none."""
    none = keys.claim("doctor")
    return {
        "read (subscriber)": (
            ("HGETALL", keys.evaluation("doctor")),
            ("XREAD", "COUNT", 1, "STREAMS", keys.events, "$"),
        ),
        "tell (controller)": (
            ("EVAL", "return 1", 1, keys.events),
            ("XADD", none, "NOMKSTREAM", "*", "a", "b"),
            ("DEL", none),
        ),
        "handle (worker)": (("XREADGROUP", "GROUP", "doctor", "doctor", "STREAMS", keys.events, ">"),),
        "replay (operator)": (("XDEL", keys.dead, "0-1"), ("XLEN", keys.dead)),
    }


def _channels(keys: Keys) -> dict[str, tuple[_Command, ...]]:
    """What cannot be tried without anybody noticing."""
    channel = keys.channel("completed")
    return {"read (subscriber)": (("SUBSCRIBE", channel),), "tell (controller)": (("PUBLISH", channel, "doctor"),)}


async def rights(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Raises what redis-py raises, but for refusals."""
    name = await _name(client)
    asking = _Asking(client, name, await _can_ask(client, name))
    may: list[str] = []
    not_may: list[str] = []
    lacks: list[str] = []
    for what, commands in _rights(keys).items():
        asked = commands + (_channels(keys).get(what, ()) if asking.can_ask else ())
        refused = [command[0] for command in asked if not await asking.may(command)]
        (not_may if refused else may).append(what)
        if refused:
            lacks.append(f"{what}: {', '.join(_unique(refused))}")
    who = f"account {name}" if name else "this account"
    if not may:
        todo = "give it the rules of one of the accounts in k8s/components/redis/users.acl"
        return [broken("account", f"{who} may nothing that anybody needs; refused: {'; '.join(lacks)}", todo)]
    found = [ok("account", f"{who} may " + ", ".join(may) + (f"; not {', '.join(not_may)}" if not_may else ""))]
    if not asking.can_ask:
        found.append(unknown("account", "which channels: it may not ask what it may do (ACL DRYRUN)"))
    return found


async def _name(client: "redis.asyncio.Redis") -> str:
    """Empty where it may not be asked."""
    try:
        said = await _ask(client, "ACL", "WHOAMI")
    except redis.exceptions.ResponseError:  # NOPERM, or a Redis before 6
        return ""
    return said.decode() if isinstance(said, bytes) else str(said)


async def _can_ask(client: "redis.asyncio.Redis", name: str) -> bool:
    try:
        await _ask(client, "ACL", "DRYRUN", name, "PING")
    except redis.exceptions.ResponseError:  # NOPERM, or a Redis before 7
        return False
    return True


async def _ask(client: "redis.asyncio.Redis", *command: Any) -> Any:
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


class _Asking(NamedTuple):
    """Says of commands whether they would be let through."""

    client: "redis.asyncio.Redis"
    name: str
    can_ask: bool

    async def may(self, command: _Command) -> bool:
        if self.can_ask:
            return await _ask(self.client, "ACL", "DRYRUN", self.name, *command) in (b"OK", "OK", True)
        try:
            await _ask(self.client, *command)
        except redis.exceptions.NoPermissionError:
            return False
        except redis.exceptions.ResponseError:
            return True  # it was let through: there is no such group
        return True


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
