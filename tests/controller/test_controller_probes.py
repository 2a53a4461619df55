"""Probes that mean something: each turns false for its own reason, says which, and turns true again."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controller import liveness, readiness
from controller.finalizers import Finalizers
from jobcast.service import supervisor
from testbed.faultproxy import FaultProxy
from testbed.valkey import ValkeyServer
from tests.conftest import eventually
from tests.controller.processes import Process
from tests.controller.world import Replica, World

pytestmark = pytest.mark.must_survive(35)

BLOCKING = """
import os, signal, time
import controller.housekeeping
controller.housekeeping.STUCK_SECONDS = 0.3
def block(*_):
    while os.path.exists({path!r}):
        time.sleep(0.01)
signal.signal(signal.SIGUSR1, block)
"""


async def _says(replica: Replica, path: str, reason: str) -> None:
    """Wait until that probe is false for this reason, and `/statusz` says the same."""

    async def is_said() -> bool:
        status, why = await replica.get(path)
        said = json.loads((await replica.get("/statusz"))[1])["alive" if path == "/livez" else "ready"]
        return status == 503 and reason in why and reason in said

    await eventually(is_said)


async def _is_true(replica: Replica, path: str) -> bool:
    said = json.loads((await replica.get("/statusz"))[1])["alive" if path == "/livez" else "ready"]
    return await replica.get(path) == (200, "ok\n") and said == "yes"


async def test_an_event_loop_that_is_stuck_answers_no_probe_and_says_where_it_hangs(
    world: World, tmp_path: Path
) -> None:
    stuck = tmp_path / "stuck"
    (tmp_path / "sitecustomize.py").write_text(BLOCKING.format(path=str(stuck)))
    with Process(world, tmp_path, PYTHONPATH=str(tmp_path)) as process:
        await process.ready()
        stuck.touch()
        process.signal(signal.SIGUSR1)

        async def is_mute() -> bool:
            try:
                async with asyncio.timeout(0.3):
                    await process.get("/livez")
            except TimeoutError:
                return True
            return False

        await eventually(is_mute)
        await eventually(lambda: "in block" in process.errors)
        await world.run("meanwhile")
        stuck.unlink()
        assert (await process.get("/livez"))[0] == 200, "it is not stuck any more: a restart would not help"
        await world.until("meanwhile", "completed")
        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0
    assert process.errors.count("Timeout (") == 1
    assert "token" not in process.errors, "a traceback without variables"


@pytest.mark.must_survive(4)
async def test_liveness_is_false_while_a_task_cannot_be_brought_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(supervisor, "STEADY_SECONDS", 0.3)
    check = Finalizers.check

    async def fail(_: Finalizers) -> None:
        raise RuntimeError("a mistake of our own")

    async with world.controller() as replica:
        monkeypatch.setattr(Finalizers, "check", fail)
        await _says(replica, "/livez", "task finalizers keeps failing")
        monkeypatch.setattr(Finalizers, "check", check)
        await eventually(lambda: _is_true(replica, "/livez"))


Harm = Callable[[World, ValkeyServer], Awaitable[object]]


def _refuse(verb: str, resource: str) -> Harm:
    async def harm(world: World, _: ValkeyServer) -> None:
        world.fault("status", code=403, verb=verb, resource=resource, times=None)
        # A watch that is open stays so on a real server, too: a rule counts when it is opened again.
        world.strike("expire" if verb == "list" else "cut", verb="watch", resource=resource)

    return harm


async def _take_api_server(world: World, _: ValkeyServer) -> None:
    await world.cluster.go_down()


async def _give_back(world: World, _: ValkeyServer) -> None:
    world.cluster.faults.clear()


async def _give_api_server(world: World, _: ValkeyServer) -> None:
    await world.cluster.come_up()


async def _take_redis(_: World, valkey: ValkeyServer) -> None:
    valkey.stop(kill=True)


async def _give_redis(_: World, valkey: ValkeyServer) -> None:
    valkey.start()


@pytest.mark.parametrize(
    ("harm", "heal", "reasons"),
    [
        (_refuse("list", "jobs"), _give_back, ("jobs in ", 'cannot list resource "jobs"', "in the namespace")),
        (_refuse("watch", "jobs"), _give_back, ("jobs in ", 'cannot watch resource "jobs"', "in the namespace")),
        (_refuse("list", "pods"), _give_back, ("pods in ", 'cannot list resource "pods"', "in the namespace")),
        (_refuse("watch", "pods"), _give_back, ("pods in ", 'cannot watch resource "pods"', "in the namespace")),
        (_take_api_server, _give_api_server, ("no answer from the API server",)),
        (_take_redis, _give_redis, ("redis: ",)),
    ],
    ids=[
        "may-not-list-jobs",
        "may-not-watch-jobs",
        "may-not-list-pods",
        "may-not-watch-pods",
        "no-cluster",
        "no-redis",
    ],
)
async def test_readiness_is_false_for_this_reason_until_it_is_fixed_and_liveness_true(
    persistent_world: World, persistent_valkey: ValkeyServer, harm: Harm, heal: Harm, reasons: tuple[str, ...]
) -> None:
    world = persistent_world
    async with world.controller() as replica:
        await harm(world, persistent_valkey)
        for reason in reasons:
            await _says(replica, "/readyz", reason)
        assert await _is_true(replica, "/livez"), "a restart would not help"
        await heal(world, persistent_valkey)
        await eventually(lambda: _is_true(replica, "/readyz"))
        await world.run("after")
        await world.until("after", "completed")


async def test_readiness_is_false_until_the_stores_are_filled(world: World) -> None:
    await world.run("before")
    world.fault("stall", verb="list", resource="jobs", after_bytes=0, seconds=1)
    async with world.controller(ready=False) as replica:
        await eventually(lambda: world.wiretap.of("list", "/jobs"))
        await _says(replica, "/readyz", f"jobs in {world.namespace}: not listed yet")
        assert await _is_true(replica, "/livez")
        await eventually(lambda: _is_true(replica, "/readyz"))
        await world.until("before", "completed")


async def test_readiness_is_false_and_liveness_true_while_it_stops(world: World, valkey: ValkeyServer) -> None:
    async with FaultProxy(valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with world.controller(redis_url=url, grace_seconds=2) as replica:
            proxy.stall()
            await world.run("in-hand")
            await eventually(lambda: world.has_ended("in-hand"))
            replica.controller.stop()
            await _says(replica, "/readyz", "stopping")
            assert await _is_true(replica, "/livez")
            proxy.flow()


@pytest.mark.must_survive(46)
async def test_credentials_that_stay_refused_are_said_by_readiness_and_then_by_liveness(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "REFUSED_SECONDS", 0.2)
    monkeypatch.setattr(liveness, "REFUSED_SECONDS", 1.0)
    monkeypatch.setattr(liveness, "CHECK_SECONDS", 0.1)
    async with world.controller() as replica:
        world.fault("status", code=401, token="devcluster", times=None)
        # The watches stay open: the first to be refused is the log.
        await world.run("refused", "echo unseen")
        await _says(replica, "/readyz", "the API server refuses our credentials (401 Unauthorized)")
        await _says(replica, "/livez", "the API server refuses our credentials (401 Unauthorized)")
        world.cluster.faults.clear()
        await eventually(lambda: _is_true(replica, "/livez"))
        await eventually(lambda: _is_true(replica, "/readyz"))


@pytest.mark.must_survive(46)
async def test_a_401_of_logs_alone_is_no_reason_for_a_restart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "REFUSED_SECONDS", 0.0)
    monkeypatch.setattr(liveness, "CHECK_SECONDS", 0.05)
    async with world.controller() as replica:
        world.fault("status", code=401, verb="log", times=None)
        await world.run("refused", "echo unseen")
        event = await world.until("refused", "completed")
        assert event["log"]["reason"] == "refused"
        await eventually(lambda: _is_true(replica, "/livez"))
        await eventually(lambda: _is_true(replica, "/readyz"))
