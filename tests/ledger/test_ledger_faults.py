"""Redis away, full, refusing, forgetful: every step goes through in the end, once, and an operator is told what to do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jobcast.connection import connect
from jobcast.ledger import AT_ONCE, CLAIM_SECONDS, Answer, LedgerError
from tests.conftest import ValkeyServer, eventually
from tests.faultproxy import FaultProxy
from tests.ledger.conftest import UID, World, world_on
from tests.valkeys import SlowLoader


async def command(server: ValkeyServer, *words: Any, password: str | None = None) -> None:
    client = connect(server.url, password=password)
    await client.execute_command(*words)
    await client.aclose()


def tell_later(world: World, *statuses: str, **fields: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(world.tell(*statuses, **fields))


class LossyProxy:
    """A TCP proxy before Redis that can swallow replies, and the connection with them."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.drops_replies = False
        self.dropped = 0
        self._serving: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> "LossyProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._serving)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._serving.add(me)
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._to)

        async def forth() -> None:
            while data := await reader.read(65_536):
                to_redis.write(data)

        async def back() -> None:
            while data := await from_redis.read(65_536):
                if self.drops_replies:
                    self.dropped += 1
                    return
                writer.write(data)

        both = [asyncio.create_task(forth()), asyncio.create_task(back())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for end in (writer, to_redis):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()


@pytest.fixture
async def proxy(valkey: ValkeyServer) -> AsyncIterator[LossyProxy]:
    async with LossyProxy(valkey.port) as one:
        yield one


@pytest.mark.must_survive(25)
async def test_a_reply_lost_after_the_write_is_not_told_twice(valkey: ValkeyServer, proxy: LossyProxy) -> None:
    async with world_on(lambda: connect(f"redis://127.0.0.1:{proxy.port}/0")) as world:
        await world.tell("running", key="a")
        proxy.drops_replies = True
        telling = [tell_later(world, "running", "completed", key="a", uid=str(number)) for number in range(10)]
        await eventually(lambda: proxy.dropped >= 1)
        proxy.drops_replies = False
        told = await asyncio.gather(*telling)
        assert Answer.ENDED in {one.answer for one in told}, "the first time it was told, and nobody heard of it"
        assert len(await world.stream()) == 21
        assert len(set(await world.ids())) == 21
        assert "away" in world.forgot


def pauses_of_the_link(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it pauses before each probe, from now on."""
    pauses, sleep = [], asyncio.sleep

    async def noted(seconds: float) -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "ledger":
            pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", noted)
    return pauses


@pytest.mark.must_survive(25)
async def test_while_replies_to_steps_alone_are_lost_nobody_lists_again_and_the_pause_grows(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe gets through each time: that Redis is back it does not prove."""
    pauses = pauses_of_the_link(monkeypatch)
    async with (
        FaultProxy(valkey.port) as proxy,
        world_on(lambda: connect(f"redis://127.0.0.1:{proxy.port}/0")) as world,
    ):
        await world.tell("running", key="a")
        proxy.lose_reply_to(b"EVALSHA", always=True)
        telling = tell_later(world, "running", "completed", key="a", version=11)
        await eventually(lambda: proxy.lost >= 5)
        assert world.forgot == []
        assert not telling.done()
        assert pauses == sorted(pauses)
        assert pauses[-1] >= 8 * pauses[0]
        proxy.lose_no_more()
        assert (await telling).answer is Answer.ENDED
        assert world.forgot == ["away"]
        assert await world.stream() == ["running", "completed"]


@pytest.mark.must_survive(27)
async def test_while_only_scripts_are_refused_nobody_lists_again(
    own: World, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = pauses_of_the_link(monkeypatch)
    await own.tell("running", key="a")
    await command(own_valkey, "ACL", "SETUSER", "default", "-evalsha")
    asking = [asyncio.create_task(own.ledger.watch_epoch(every=0.01)), tell_later(own, "completed", version=11)]
    await eventually(lambda: len(pauses) >= 5)
    assert own.forgot == []
    assert pauses == sorted(pauses)
    assert "lacks a permission" in str(own.ledger.trouble)
    await command(own_valkey, "ACL", "SETUSER", "default", "+evalsha")
    assert (await asking[1]).answer is Answer.TOLD
    assert own.forgot == ["away"]
    asking[0].cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_an_outage_after_an_outage_is_probed_as_soon_as_the_first_one(
    own: World, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = pauses_of_the_link(monkeypatch)
    for version in (11, 12):
        own_valkey.stop(kill=True)
        telling = tell_later(own, "running", key=str(version), version=version)
        before = len(pauses)
        await eventually(lambda: len(pauses) >= before + 3)  # noqa: B023 (awaited at once)
        own_valkey.start()
        await telling
    assert pauses.count(min(pauses)) == 2


async def test_who_gave_up_while_redis_is_away_leaves_nothing_behind(own: World, own_valkey: ValkeyServer) -> None:
    """Ten minutes without Redis are thousands of questions that nobody waits for any more."""
    own_valkey.stop(kill=True)
    patient = tell_later(own, "completed")
    await eventually(lambda: own.ledger.is_away)
    for _ in range(20):
        impatient = [asyncio.create_task(own.ledger.claim(str(number))) for number in range(100)]
        await asyncio.sleep(0)
        for task in impatient:
            task.cancel()
        await asyncio.gather(*impatient, return_exceptions=True)
    await eventually(lambda: own.ledger.waiting == 1)
    own_valkey.start()
    assert (await patient).answer is Answer.TOLD


async def test_rows_without_number_are_kept_with_few_calls_waiting(own: World, own_valkey: ValkeyServer) -> None:
    uids = [f"job-{number}" for number in range(5_000)]
    own_valkey.stop(kill=True)
    asking = [asyncio.create_task(ask(uids)) for ask in (own.ledger.keep, own.ledger.told)]
    await eventually(lambda: own.ledger.is_away)
    assert own.ledger.waiting <= 2 * AT_ONCE
    own_valkey.start()
    assert await asyncio.gather(*asking) == [None, {}]


@pytest.mark.must_survive(24)
async def test_a_mistake_of_who_is_told_that_redis_is_back_does_not_end_the_link(
    own: World, own_valkey: ValkeyServer
) -> None:
    mistakes: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(str(context["exception"])))

    def make_a_mistake() -> None:
        raise RuntimeError("ours")

    own.ledger._link._back = make_a_mistake
    await own.tell("running", uid="first")
    for number in range(2):
        own_valkey.stop()
        waiting = asyncio.create_task(own.tell("running", uid=f"uid-{number}"))
        await eventually(lambda: own.ledger.trouble)
        own_valkey.start()
        assert (await waiting).answer is Answer.TOLD
    assert mistakes == ["ours", "ours"]


@pytest.mark.must_survive(24)
async def test_steps_wait_while_redis_is_away_and_all_go_through_in_order(own: World, own_valkey: ValkeyServer) -> None:
    await own.tell("running", uid="before", key="a")
    own_valkey.stop(kill=True)

    async def live(uid: str) -> None:
        await own.tell("running", uid=uid, key="a")
        await own.tell("suspended", uid=uid, key="b", version=11)
        await own.tell("running", "completed", uid=uid, key="c", version=12)

    living = [asyncio.create_task(live(f"job-{number}")) for number in range(100)]
    await eventually(lambda: own.ledger.trouble)
    assert not any(task.done() for task in living)
    own_valkey.start()
    async with asyncio.timeout(20):
        await asyncio.gather(*living)
    by_job: dict[bytes, list[bytes]] = {}
    for _, fields in await own.client.xrange(own.keys.events):
        by_job.setdefault(fields[b"id"], []).append(fields[b"status"])
    assert len(by_job) == 400, "each its own id"
    statuses = await own.stream()
    assert [statuses.count(status) for status in ("running", "suspended", "completed")] == [200, 100, 100]
    assert "away" in own.forgot
    assert own.ledger.trouble is None
    assert own.troubles[0] is None
    assert own.troubles[-1] is None


@pytest.mark.must_survive(26)
async def test_a_redis_that_came_back_empty_is_told_the_same_again(own: World, own_valkey: ValkeyServer) -> None:
    await own.tell("running", "completed", key="a")
    ids = await own.ids()
    own_valkey.stop(kill=True)
    own_valkey.start()
    assert (await own.tell("running", "completed", key="a")).answer is Answer.TOLD
    assert await own.ids() == ids
    assert own.forgot[0] == "away"


@pytest.mark.must_survive(26)
async def test_an_epoch_that_is_gone_is_noticed_once(world: World) -> None:
    await world.tell("running", key="a")
    watching = asyncio.create_task(world.ledger.watch_epoch(every=0.001))
    try:
        await asyncio.sleep(0)
        assert world.forgot == []
        await world.client.flushall()
        await eventually(lambda: world.forgot)
        assert await world.ledger.is_empty()
        await world.tell("running", key="a")
        await world.ledger.row(UID)
        assert world.forgot == ["epoch"]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.must_survive(26)
async def test_a_flush_between_two_steps_is_noticed_by_the_second(world: World) -> None:
    await world.tell("running", key="a")
    await world.client.flushall()
    await world.tell("running", uid="another", key="a")
    assert world.forgot == ["epoch"]
    await world.tell("running", uid="a third", key="a")
    assert world.forgot == ["epoch"]


@pytest.mark.must_survive(26)
async def test_an_epoch_that_changed_is_noticed(world: World) -> None:
    await world.tell("running", key="a")
    await world.client.set(world.keys.epoch, "another")
    await world.tell("running", key="a")
    assert world.forgot == ["epoch"]
    assert world.ledger.epoch == "another"


async def test_an_epoch_that_alone_was_lost_is_written_anew(world: World) -> None:
    await world.tell("running", key="a")
    await world.client.delete(world.keys.epoch)
    await world.tell("running", key="a")
    await world.tell("completed", version=11)
    assert world.forgot == ["epoch"]
    assert await world.client.get(world.keys.epoch)


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
    """Where its file belongs is a folder."""
    (server._folder / "dump.rdb").mkdir()
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
        "while its replicas are away",
    ),
    "NOPERM": (
        lambda server: command(server, "ACL", "SETUSER", "default", "-xadd", "-set", "-script", "-evalsha"),
        lambda server: command(server, "ACL", "SETUSER", "default", "+@all"),
        "lacks a permission",
    ),
}


@pytest.mark.must_survive(27)
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_redis_that_refuses_is_waited_for_and_says_what_to_do(
    own: World, own_valkey: ValkeyServer, name: str
) -> None:
    refuse, relent, advice = REFUSALS[name]
    await own.tell("running", key="a")
    await refuse(own_valkey)
    telling = tell_later(own, "running", "completed", key="a", version=11)
    await eventually(lambda: advice in str(own.ledger.trouble))
    assert not telling.done()
    await relent(own_valkey)
    async with asyncio.timeout(10):
        assert (await telling).answer is Answer.TOLD
    assert await own.stream() == ["running", "completed"]
    assert own.ledger.trouble is None
    assert own.forgot[0] == "away"


@pytest.mark.must_survive(27)
async def test_a_redis_that_loads_its_data_is_waited_for(slow_loader: SlowLoader) -> None:
    async with world_on(lambda: connect(slow_loader.url)) as world:
        await world.tell("running", key="a")
        await asyncio.to_thread(slow_loader.restart_slowly)
        telling = tell_later(world, "running", "completed", key="a", version=11)
        await eventually(lambda: "Redis is starting" in str(world.ledger.trouble))
        assert slow_loader.is_loading()
        assert not telling.done()
        slow_loader.hurry()
        assert (await telling).answer is Answer.TOLD
        assert await world.stream() == ["running", "completed"]
        assert world.forgot == ["away"]


@pytest.mark.must_survive(27)
async def test_a_name_that_leads_to_another_primary_is_followed_though_the_old_one_still_answers(
    own_valkey: ValkeyServer, valkey: ValkeyServer
) -> None:
    async with (
        FaultProxy(own_valkey.port) as name,
        world_on(lambda: connect(f"redis://127.0.0.1:{name.port}/0"), bare=lambda: connect(valkey.url)) as world,
    ):
        await world.tell("running", key="a")
        name.lead_to(valkey.port)
        await replica(own_valkey)
        async with asyncio.timeout(10):
            await world.tell("running", "completed", key="a", version=11)
        assert await world.stream() == ["running", "completed"]
        assert world.forgot[0] == "away"


@pytest.mark.must_survive(27)
async def test_a_script_that_may_not_be_loaded_says_so(own: World, own_valkey: ValkeyServer) -> None:
    await command(own_valkey, "ACL", "SETUSER", "default", "-script|load")
    telling = tell_later(own, "completed")
    await eventually(lambda: "lacks a permission" in str(own.ledger.trouble))
    await command(own_valkey, "ACL", "SETUSER", "default", "+@all")
    async with asyncio.timeout(10):
        assert (await telling).answer is Answer.TOLD


@pytest.mark.must_survive(27)
async def test_a_wrong_password_is_waited_for_and_never_repeated(own_valkey: ValkeyServer) -> None:
    await closed(own_valkey)
    url = own_valkey.url.replace("redis://", "redis://default:hunter2@")
    async with world_on(lambda: connect(url)) as world:
        telling = tell_later(world, "completed")
        await eventually(lambda: "is wrong" in str(world.ledger.trouble))
        assert "hunter2" not in str(world.troubles)
        await command(own_valkey, "CONFIG", "SET", "requirepass", "hunter2", password="secret")
        async with asyncio.timeout(10):
            assert (await telling).answer is Answer.TOLD


@pytest.mark.parametrize("key", ["job", "evaluation", "events", "open"])
async def test_a_key_of_another_type_costs_its_own_job_alone_and_nothing_is_half_told(world: World, key: str) -> None:
    keys = world.keys
    await world.tell("running", uid="before", key="a", eval_id="before")
    name = {"job": keys.job(UID), "evaluation": keys.evaluation("42"), "events": keys.events, "open": keys.open}[key]
    kept = await world.client.dump(name) if key in ("events", "open") else None
    await world.client.delete(name)
    await world.client.set(name, "somebody wrote here")
    ours = tell_later(world, "running", "completed", key="a")
    other = tell_later(world, "completed", uid="other", eval_id="other")
    with pytest.raises(LedgerError, match="WRONGTYPE"):
        await ours
    if key in ("job", "evaluation"):
        assert (await other).answer is Answer.TOLD
    else:
        with pytest.raises(LedgerError):
            await other
    await world.client.delete(name)
    if kept:
        await world.client.restore(name, 0, kept)
    assert (await world.tell("running", "completed", key="a")).count == 2, "it was half told"
    assert world.ledger.trouble is None
    assert world.forgot == []


@pytest.mark.must_survive(32)
async def test_a_claim_has_one_holder_until_it_is_given_back(make_client: Callable[[], Any]) -> None:
    async with world_on(make_client) as one, world_on(make_client) as two:
        claims = await asyncio.gather(one.ledger.claim(UID), two.ledger.claim(UID))
        assert sorted(claims) == [False, True]
        first, second = (one, two) if claims[0] else (two, one)
        await one.client.pexpire(one.keys.claim(UID), 100)
        assert await first.ledger.claim(UID), "renewed"
        assert await one.client.pttl(one.keys.claim(UID)) > CLAIM_SECONDS * 500
        assert not await second.ledger.claim(UID)
        await second.ledger.release([])
        await first.ledger.release([UID, "unknown"])
        assert await second.ledger.claim(UID)


@pytest.mark.must_survive(31)
async def test_a_claim_lapses_with_who_held_it(world: World) -> None:
    await world.client.set(world.keys.claim(UID), "a replica that died", px=1000)
    assert not await world.ledger.claim(UID)
    await eventually(lambda: world.ledger.claim(UID), timeout=5)
    assert 0 < await world.client.pttl(world.keys.claim(UID)) <= CLAIM_SECONDS * 1000
