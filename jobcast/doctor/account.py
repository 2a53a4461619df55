"""What our account in Redis may do. Redis is asked without running a command; else commands are tried that change nothing."""

from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from jobcast.doctor.finding import Finding, broken, ok, unknown
from jobcast.keys import Keys

if TYPE_CHECKING:
    import redis.asyncio

_Command = tuple[str | int, ...]


def _rights(keys: Keys) -> dict[str, tuple[_Command, ...]]:
    """By role, commands that it needs and that change nothing: no key or group of these names exists."""
    none = keys.claim("doctor")
    return {
        "read (subscriber)": (
            ("HGETALL", keys.evaluation("doctor")),
            ("XREAD", "COUNT", 1, "STREAMS", keys.events, "$"),
        ),
        "publish (controller)": (
            ("EVAL", "return 1", 1, keys.events),
            ("XADD", none, "NOMKSTREAM", "*", "a", "b"),
            ("DEL", none),
        ),
        "handle (worker)": (("XREADGROUP", "GROUP", "doctor", "doctor", "STREAMS", keys.events, ">"),),
        "replay (operator)": (("XDEL", keys.dead, "0-1"), ("XLEN", keys.dead)),
    }


def _channels(keys: Keys) -> dict[str, tuple[_Command, ...]]:
    """What can only be asked for: subscribers would notice a try."""
    channel = keys.channel("completed")
    return {"read (subscriber)": (("SUBSCRIBE", channel),), "publish (controller)": (("PUBLISH", channel, "doctor"),)}


async def rights(client: "redis.asyncio.Redis", keys: Keys) -> list[Finding]:
    """Raises what redis-py raises, except for refused permissions."""
    name = await _name(client)
    account = _Account(client, name, await _can_ask(client, name))
    may: list[str] = []
    refused: dict[str, list[str]] = {}
    for role, commands in _rights(keys).items():
        asked = commands + (_channels(keys).get(role, ()) if account.can_ask else ())
        if names := [str(command[0]) for command in asked if not await account.may(command)]:
            refused[role] = names
        else:
            may.append(role)
    who = f"account {name}" if name else "this account"
    if not may:
        lacks = "; ".join(f"{role}: {', '.join(dict.fromkeys(names))}" for role, names in refused.items())
        todo = "give it the rules of one of the accounts in k8s/components/redis/users.acl"
        return [broken("account", f"{who} has the permissions of no role; it lacks {lacks}", todo)]
    found = [ok("account", f"{who} may {', '.join(may)}" + (f"; not {', '.join(refused)}" if refused else ""))]
    if not account.can_ask:
        found.append(unknown("account", "this account may not ask for its permissions on channels (ACL DRYRUN)"))
    return found


async def _name(client: "redis.asyncio.Redis") -> str:
    """Empty where the account may not ask for it."""
    try:
        name = await _ask(client, "ACL", "WHOAMI")
    except redis.exceptions.ResponseError:  # NOPERM, or a Redis before 6
        return ""
    return name.decode() if isinstance(name, bytes) else str(name)


async def _can_ask(client: "redis.asyncio.Redis", name: str) -> bool:
    try:
        await _ask(client, "ACL", "DRYRUN", name, "PING")
    except redis.exceptions.ResponseError:  # NOPERM, or a Redis before 7
        return False
    return True


async def _ask(client: "redis.asyncio.Redis", *command: str | int) -> Any:
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


class _Account(NamedTuple):
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
            return True  # it is permitted: no such group exists
        return True
