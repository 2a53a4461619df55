"""Redis rejects commands: every step waits, and the error says what an operator can do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobcast.ledger.ledger import Answer, LedgerError
from jobcast.redis.connection import connect
from testbed.valkey import ValkeyServer
from tests.conftest import eventually
from tests.ledger.conftest import UID, World, command, pauses_of_the_link, publish_later, world_on


@pytest.mark.must_survive(27)
async def test_while_only_scripts_are_rejected_nothing_is_listed_again(
    own: World, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = pauses_of_the_link(monkeypatch)
    await own.publish("running", key="a")
    await command(own_valkey, "ACL", "SETUSER", "default", "-evalsha")
    asking = [asyncio.create_task(own.ledger.watch_epoch(every=0.01)), publish_later(own, "completed", version=11)]
    await eventually(lambda: len(pauses) >= 5)
    assert own.data_losses == []
    assert pauses == sorted(pauses)
    assert "lacks a permission" in str(own.ledger.error)
    await command(own_valkey, "ACL", "SETUSER", "default", "+evalsha")
    assert (await asking[1]).answer is Answer.PUBLISHED
    assert own.data_losses == ["unreachable"]
    asking[0].cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def full(server: ValkeyServer) -> None:
    await command(server, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    await command(server, "CONFIG", "SET", "maxmemory", "1")


async def replica(server: ValkeyServer) -> None:
    await command(server, "REPLICAOF", "127.0.0.1", "1")


async def closed(server: ValkeyServer) -> None:
    await command(server, "CONFIG", "SET", "requirepass", "secret")
    await command(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", password="secret")


async def opened(server: ValkeyServer) -> None:
    await command(server, "CONFIG", "SET", "requirepass", "", password="secret")


async def unsaved(server: ValkeyServer) -> None:
    """Redis cannot save: a folder is in the place of its file."""
    (server.folder / "dump.rdb").mkdir()
    await command(server, "CONFIG", "SET", "save", "3600 1000000")
    await command(server, "BGSAVE")
    client = connect(server.url)
    await eventually(lambda: _has_failed_to_save(client))
    await client.aclose()


async def _has_failed_to_save(client: Any) -> bool:
    return (await client.info("persistence"))["rdb_last_bgsave_status"] == "err"


async def saved(server: ValkeyServer) -> None:
    await command(server, "CONFIG", "SET", "save", "")


REFUSALS: dict[
    str, tuple[Callable[[ValkeyServer], Awaitable[None]], Callable[[ValkeyServer], Awaitable[None]], str]
] = {
    "OOM": (full, lambda server: command(server, "CONFIG", "SET", "maxmemory", "0"), "raise maxmemory"),
    "READONLY": (replica, lambda server: command(server, "REPLICAOF", "NO", "ONE"), "must lead to the primary"),
    "NOAUTH": (closed, opened, "needs a password"),
    "MISCONF": (unsaved, saved, "cannot save to disk"),
    "NOREPLICAS": (
        lambda server: command(server, "CONFIG", "SET", "min-replicas-to-write", "1"),
        lambda server: command(server, "CONFIG", "SET", "min-replicas-to-write", "0"),
        "while its replicas are unreachable",
    ),
    "NOPERM": (
        lambda server: command(server, "ACL", "SETUSER", "default", "-xadd", "-set", "-script", "-evalsha"),
        lambda server: command(server, "ACL", "SETUSER", "default", "+@all"),
        "lacks a permission",
    ),
    "NOPERM within a script": (
        lambda server: command(server, "ACL", "SETUSER", "default", "-xadd"),
        lambda server: command(server, "ACL", "SETUSER", "default", "+@all"),
        "lacks a permission",
    ),
}


@pytest.mark.must_survive(27)
@pytest.mark.parametrize("name", REFUSALS)
async def test_steps_wait_for_a_redis_that_rejects_them_and_the_error_says_what_to_do(
    own: World, own_valkey: ValkeyServer, name: str
) -> None:
    refuse, relent, advice = REFUSALS[name]
    await own.publish("running", key="a")
    await refuse(own_valkey)
    publishing = publish_later(own, "running", "completed", key="a", version=11)
    await eventually(lambda: advice in str(own.ledger.error))
    assert not publishing.done()
    await relent(own_valkey)
    async with asyncio.timeout(60):
        assert (await publishing).answer is Answer.PUBLISHED
    assert await own.stream() == ["running", "completed"]
    assert own.ledger.error is None
    assert own.data_losses[0] == "unreachable"


@pytest.mark.must_survive(27)
async def test_a_script_that_may_not_be_loaded_is_reported(own: World, own_valkey: ValkeyServer) -> None:
    await command(own_valkey, "ACL", "SETUSER", "default", "-script|load")
    publishing = publish_later(own, "completed")
    await eventually(lambda: "lacks a permission" in str(own.ledger.error))
    await command(own_valkey, "ACL", "SETUSER", "default", "+@all")
    async with asyncio.timeout(60):
        assert (await publishing).answer is Answer.PUBLISHED


@pytest.mark.must_survive(27)
async def test_steps_wait_for_the_right_password_and_the_wrong_one_is_never_shown(own_valkey: ValkeyServer) -> None:
    await closed(own_valkey)
    url = own_valkey.url.replace("redis://", "redis://default:hunter2@")
    async with world_on(lambda: connect(url)) as world:
        publishing = publish_later(world, "completed")
        await eventually(lambda: "is wrong" in str(world.ledger.error))
        assert "hunter2" not in str(world.errors)
        await command(own_valkey, "CONFIG", "SET", "requirepass", "hunter2", password="secret")
        async with asyncio.timeout(60):
            assert (await publishing).answer is Answer.PUBLISHED


@pytest.mark.parametrize("key", ["job", "evaluation", "events", "open", "index"])
async def test_a_key_of_another_type_affects_its_own_job_only_and_nothing_is_half_published(
    world: World, key: str
) -> None:
    keys = world.keys
    await world.publish("running", uid="before", key="a", eval_id="before")
    own = {"job": keys.job(UID), "evaluation": keys.evaluation("42")}
    name = own.get(key) or getattr(keys, key)
    kept = await world.client.dump(name) if key not in own else None
    await world.client.delete(name)
    await world.client.set(name, "somebody wrote here")
    ours = publish_later(world, "running", "completed", key="a")
    other = publish_later(world, "completed", uid="other", eval_id="other")
    with pytest.raises(LedgerError, match="WRONGTYPE"):
        await ours
    if key in own:
        assert (await other).answer is Answer.PUBLISHED
    else:
        with pytest.raises(LedgerError):
            await other
    await world.client.delete(name)
    if kept:
        await world.client.restore(name, 0, kept)
    assert (await world.publish("running", "completed", key="a")).count == 2, "it was half published"
    assert world.ledger.error is None
    assert world.data_losses == []
