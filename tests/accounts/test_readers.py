"""The accounts of those who read: a subscriber, who writes nothing, and an operator, for whom the command is."""

import asyncio

import pytest
import redis
from typer.testing import CliRunner

from jobcast.cli.app import app
from jobcast.client import AsyncClient, Client
from jobcast.client.operator import Operator
from jobcast.client.position import when
from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger
from tests.accounts.conftest import PREFIX, Accounts, rules_of
from tests.accounts.recording import Asked, Recording, broken_without, recording, refused
from tests.cli.operating import Stage
from tests.client.keeping import LogKeeper
from tests.client.telling import BIRTH, event, telling_to
from tests.conftest import eventually

KEYS = Keys(PREFIX)
WRITES = """
SET {evaluation}:epoch x | DEL {evaluation}:events | XADD {evaluation}:events * a b | XTRIM {evaluation}:events MAXLEN 0
XDEL {evaluation}:events 1-1 | HSET {evaluation}:job:a status completed | EXPIRE {evaluation}:eval:42 1
PUBLISH evaluation:completed x | EVAL x 1 {evaluation}:events | FLUSHALL | FLUSHDB | SCRIPT FLUSH | CONFIG SET maxmemory 1
XGROUP CREATE {evaluation}:events mine $ | XREADGROUP GROUP worker me STREAMS {evaluation}:events >
XACK {evaluation}:events worker 1-1 | GET other | XREAD STREAMS other 0 | SUBSCRIBE other | KEYS * | ACL LIST | SHUTDOWN
CLIENT KILL TYPE normal | MIGRATE h 1 k 0 1 | REPLICAOF h 1 | DEBUG SLEEP 1 | MONITOR
"""


async def reads(other: Accounts, account: str, made: Recording) -> None:
    """All that a subscriber asks, over both clients; its connection is cut once."""
    url = other.url(account)
    async with AsyncClient(url, PREFIX) as client, client.events("running") as live:
        hearing = asyncio.create_task(anext(live))
        channel = KEYS.channel("running")
        await eventually(lambda: other.admin.pubsub_numsub(channel)[0][1] == 1)
        async with telling_to(other.admin_url, PREFIX) as teller:
            await teller.tell(event("running"))
            assert (await hearing).eval_id == "42"
            await teller.tell(event("completed", log=await kept(teller.ledger)))
        assert (await client.wait("42", 10)).status == "completed"
        assert (await client.get("42")) is not None
        assert [record.eval_id async for record in client.list(status="completed", since="1h")] == ["42"]
        assert await client.log("42").read() == b"hello"
        async with telling_to(other.admin_url, PREFIX) as teller:
            log = await kept(teller.ledger)
            await teller.tell(event("running", uid="2"), event("completed", uid="2", log=log), created=BIRTH + 1)
        assert await client.log("42", job=event("running").job.uid).read() == b"hello"
        async with client.follow("$") as coming:
            hearing = asyncio.create_task(anext(coming))
            await eventually(lambda: any(one["cmd"] == "xread" for one in other.admin.client_list()))
            async with telling_to(other.admin_url, PREFIX) as teller:
                await teller.tell(event("running", "44"))
            assert (await hearing).eval_id == "44"
        async with client.follow("0") as entries:
            assert (await anext(entries)).status == "running"
            other.admin.execute_command("CLIENT", "KILL", "USER", account)
            async with telling_to(other.admin_url, PREFIX) as teller:
                await teller.tell(event("running", "43"))
            assert [(await anext(entries)).eval_id for _ in range(5)] == ["42"] * 3 + ["44", "43"]
        made.catch_up()
    async with Operator(url, PREFIX) as looking_back:  # `jobcast watch --since 2h`
        await looking_back.ping()
        await looking_back.before(when("2h"))
        made.catch_up()
    with Client(url, PREFIX) as plain:
        assert plain.wait("42", 10).status == "completed"
        made.catch_up()
    with redis.Redis.from_url(url) as by_hand, by_hand.pubsub() as pubsub:  # redis-cli PSUBSCRIBE 'evaluation:*'
        pubsub.psubscribe("evaluation:*")
        assert pubsub.get_message(timeout=5)["type"] == "psubscribe"
        made.catch_up()


async def kept(ledger: Ledger):  # type: ignore[no-untyped-def]
    return await LogKeeper(ledger, event("running").job).keep(b"hello")


async def test_a_subscriber_receives_reads_and_waits_and_each_rule_is_needed(accounts: Accounts) -> None:
    with recording(accounts.admin_url, "subscriber", scripts=False) as made:
        await reads(accounts, "subscriber", made)
    assert accounts.refusals("subscriber") == []
    broken = broken_without(accounts.admin, rules_of("subscriber"), made.kinds())
    assert not " ".join(rule for rule, what in broken.items() if not what)


def test_a_subscriber_cannot_write_nor_read_what_is_not_ours(accounts: Accounts) -> None:
    asked = [Asked(tuple(part.encode().split())) for line in WRITES.strip().splitlines() for part in line.split("|")]
    for one in asked:
        assert refused(accounts.admin, "subscriber", [one]), one.name


COMMANDS = (
    "list --status completed",
    "get 42",
    "wait 42",
    "logs 42 --job {job}",
    "lag",
    "dead list",
    "dead show {letter}",
    "dead replay {letter}",
    "dead drop --all --yes",
    "replay 42",
    "replay --since 1h",
    "doctor --repair",
)


def test_an_operator_may_carry_out_every_command_and_each_rule_is_needed(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", accounts.url("operator"))
    stage = Stage(redis.Redis.from_url(accounts.admin_url, decode_responses=True), PREFIX)
    with recording(accounts.admin_url, "operator", scripts=False) as made:
        asyncio.run(reads(accounts, "operator", made))  # as `jobcast watch` does
    stage.announce("mine.score")
    accounts.admin.xgroup_create(KEYS.events, "worker", id="0")
    accounts.admin.xreadgroup("worker", "one", {KEYS.events: ">"}, count=1)
    letter = stage.bury()
    stage.bury()
    # Leftovers of each kind.
    accounts.admin.hset(KEYS.job("gone"), "status", "completed")
    accounts.admin.hset(KEYS.job("open"), "status", "running")
    accounts.admin.hset(KEYS.lanes(), "42", "1-1")
    with recording(accounts.admin_url, "operator") as more:
        for command in COMMANDS:
            # What doctor tries and may not is noted by Redis, too.
            assert accounts.refusals("operator") == []
            result = CliRunner().invoke(app, command.format(letter=letter, job=event("running").job.uid).split())
            # Of doctor that no controller is there, and no cluster.
            assert result.exit_code == 0 or command.startswith("doctor"), f"{command}: {result.output}"
    stage.client.close()
    broken = broken_without(accounts.admin, rules_of("operator"), [*made.kinds(), *more.kinds()])
    assert not " ".join(rule for rule, what in broken.items() if not what)
