"""What Redis may do to a controller: go away, forget, refuse, lose a reply."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from controller import workers
from controller.upkeep import RedisLog
from jobcast.reconcile import reconciler
from jobcast.redis.pipeline import Pipeline
from testbed.faultproxy import FaultProxy
from testbed.valkey import ValkeyServer
from tests.conftest import eventually
from tests.controller.world import Replica, World, container, make_job
from tests.lines import capture_logs


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mute Redis is given up after half a second instead of five."""
    monkeypatch.setitem(Pipeline.__init__.__kwdefaults__, "answer_seconds", 0.5)


async def _says(replica: Replica, text: str) -> str:
    """Wait until the replica is not ready for this reason, and alive all the same."""

    async def why() -> str:
        why = await replica.why_not_ready()
        return why if text in why else ""

    found: str = await eventually(why)
    assert (await replica.get("/livez"))[0] == 200, "a restart would not help"
    return found


@pytest.mark.must_survive(24)
async def test_what_happens_while_redis_is_down_is_published_once_and_in_order_when_it_is_up(
    persistent_world: World, persistent_valkey: ValkeyServer, tmp_path: Path
) -> None:
    world = persistent_world
    async with world.controller() as replica:
        for name in ("ending", "dropped"):
            await world.run(name, f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo {name}")
            await world.until(name, "running")
        persistent_valkey.stop(kill=True)
        assert (await _says(replica, "redis: ")).startswith("redis: ")
        assert await replica.metric("jobcast_redis_up") == 0
        await world.delete("dropped")
        (tmp_path / "go").touch()
        await world.run("whole", "echo whole")
        for name in ("ending", "whole"):
            await eventually(lambda name=name: world.has_ended(name))
        persistent_valkey.start()
        ending = await world.until("ending", "completed")
        whole = await world.until("whole", "completed")
        await world.until("dropped", "cancelled")
        await eventually(replica.is_ready)
        assert await replica.metric("jobcast_redis_up") == 1
    for name, statuses in {
        "ending": ["running", "completed"],
        "whole": ["running", "completed"],
        "dropped": ["running", "cancelled"],
    }.items():
        assert await world.statuses(name) == statuses
    assert (ending["output"], whole["output"]) == ("ending\n", "whole\n")


@pytest.mark.must_survive(24)
async def test_a_log_that_was_read_while_redis_was_down_is_published_with_the_end(
    persistent_world: World, persistent_valkey: ValkeyServer
) -> None:
    """An end that cannot leave for want of Redis need not leave without its log."""
    world = persistent_world
    async with world.controller(log_wait_seconds=0.5) as replica:
        world.fault("stall", verb="log", after_bytes=0, seconds=0.4)
        await world.run("unlucky", "echo kept")
        await eventually(lambda: world.wiretap.of("log"))
        persistent_valkey.stop()
        await _says(replica, "redis: ")
        await asyncio.sleep(0.8)  # past the time that an end waits for its log
        persistent_valkey.start()
        event = await world.until("unlucky", "completed")
    assert (event["output"], event["log"]["state"]) == ("kept\n", "complete")
    assert event["log"]["ref"]


@pytest.mark.must_survive(24)
async def test_a_controller_that_starts_without_redis_publishes_once_redis_is_up(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    own_valkey.stop()
    await own_world.run("early")
    async with own_world.controller(ready=False) as replica:
        await _says(replica, "redis: ")
        own_valkey.start()
        await own_world.until("early", "completed")
        await eventually(replica.is_ready)


@pytest.mark.must_survive(26)
async def test_to_a_redis_that_restarts_empty_everything_is_published_again_with_the_same_ids(
    own_world: World, own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    world = own_world
    async with world.controller():
        await world.run("ended", "echo ended; exit 2")
        await world.run("open", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
        await world.until("ended", "failed")
        await world.until("open", "running")
        before = {event["id"]: event for event in await world.published()}
        own_valkey.stop()
        own_valkey.start()
        again = await world.until("ended", "failed")
        await world.until("open", "running")
        assert {event["id"] for event in await world.published()} == set(before)
        assert again == before[again["id"]]
        assert await world.statuses("ended") == ["running", "failed"]
        (tmp_path / "go").touch()
        await world.until("open", "completed")


@pytest.mark.must_survive(26)
@pytest.mark.parametrize("is_busy", [False, True], ids=["quiet", "busy"])
async def test_to_a_redis_that_is_flushed_everything_is_published_again_with_the_same_ids(
    world: World, is_busy: bool
) -> None:
    """Also when something is published at once afterwards, so that the epoch is never seen missing."""
    async with world.controller():
        await world.run("ended")
        await world.until("ended", "completed")
        if is_busy:
            await world.run("next", "sleep 60")
            await world.until("next", "running")
        before = {event["id"] for event in await world.published()}
        await world.redis.flushdb()
        world.is_redis_steady = False
        if is_busy:
            await world.delete("next")
            await world.until("next", "cancelled")
        await world.until("ended", "completed")
        after = [event["id"] for event in await world.published("ended")]
    assert set(after) <= before
    assert len(after) == 2


@pytest.mark.must_survive(26)
async def test_a_failover_to_an_older_redis_is_healed_also_for_jobs_that_are_gone(
    persistent_world: World, persistent_valkey: ValkeyServer, tmp_path: Path
) -> None:
    world = persistent_world
    async with world.controller():
        await world.run("dropped", "sleep 60")
        await world.run("ended", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
        await world.until("dropped", "running")
        await world.until("ended", "running")
        shutil.copytree(persistent_valkey.folder / "appendonlydir", persistent_valkey.folder / "older")
        await world.delete("dropped")
        (tmp_path / "go").touch()
        first = [await world.until("dropped", "cancelled"), await world.until("ended", "completed")]
        persistent_valkey.stop(kill=True)
        shutil.rmtree(persistent_valkey.folder / "appendonlydir")
        (persistent_valkey.folder / "older").rename(persistent_valkey.folder / "appendonlydir")
        persistent_valkey.start()
        again = [await world.until("dropped", "cancelled"), await world.until("ended", "completed")]
    assert [event["id"] for event in again] == [event["id"] for event in first]


@pytest.mark.must_survive(25)
@pytest.mark.parametrize("status", ["running", "completed"])
async def test_an_event_whose_reply_is_lost_after_the_write_is_not_published_twice(
    world: World, valkey: ValkeyServer, status: str
) -> None:
    async with FaultProxy(valkey.port) as proxy, world.controller(redis_url=f"redis://127.0.0.1:{proxy.port}/0"):
        proxy.lose_reply_to(f"{world.prefix}:{status}".encode())
        await world.run("once", "sleep 0.2; echo once")
        await world.until("once", "completed")
        await eventually(lambda: proxy.lost)
        await world.run("witness")
        await world.until("witness", "completed")
    assert await world.statuses("once") == ["running", "completed"]


@pytest.mark.must_survive(24)
async def test_a_redis_that_is_mute_is_noticed_and_gets_everything_once_it_answers(
    world: World, valkey: ValkeyServer, short_answers: None
) -> None:
    async with (
        FaultProxy(valkey.port) as proxy,
        world.controller(redis_url=f"redis://127.0.0.1:{proxy.port}/0") as replica,
    ):
        await world.run("before")
        await world.until("before", "completed")
        proxy.stall()
        await world.run("during")
        await eventually(lambda: world.has_ended("during"))
        await _says(replica, "redis: ")
        proxy.flow()
        await world.until("during", "completed")
        await eventually(replica.is_ready)


@pytest.mark.must_survive(24)
async def test_connections_that_are_cut_again_and_again_cost_no_event(world: World, valkey: ValkeyServer) -> None:
    async with FaultProxy(valkey.port) as proxy, world.controller(redis_url=f"redis://127.0.0.1:{proxy.port}/0"):
        for number in range(8):
            await world.run(f"cut-{number}")
            await proxy.cut()
            await asyncio.sleep(0.03)
            await proxy.cut()
        for number in range(8):
            await world.until(f"cut-{number}", "completed")
            assert await world.statuses(f"cut-{number}") == ["running", "completed"]


@pytest.mark.must_survive(27)
@pytest.mark.parametrize(
    ("harm", "heal", "reason"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "Redis is full: raise maxmemory"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "REDIS_URL must lead to the primary"),
    ],
    ids=["full", "read-only"],
)
async def test_a_redis_that_refuses_is_named_and_waited_for(
    own_world: World, harm: tuple[str, ...], heal: tuple[str, ...], reason: str
) -> None:
    world = own_world
    async with world.controller() as replica:
        await world.redis.execute_command(*harm)
        await world.run("refused")
        await eventually(lambda: world.has_ended("refused"))
        await _says(replica, reason)
        await world.redis.execute_command(*heal)
        await world.until("refused", "completed")
        await eventually(replica.is_ready)
    assert await world.statuses("refused") == ["running", "completed"]


@pytest.mark.must_survive(27)
async def test_a_redis_that_cannot_save_is_named_and_waited_for(own_world: World, own_valkey: ValkeyServer) -> None:
    world = own_world
    async with world.controller() as replica:
        (own_valkey.folder / "dump.rdb").mkdir()  # where the file would go
        await world.redis.config_set("save", "3600 100000")  # a Redis that is to save refuses writes when it cannot
        await world.redis.bgsave()

        async def cannot_save() -> bool:
            return bool((await world.redis.info("persistence"))["rdb_last_bgsave_status"] == "err")

        await eventually(cannot_save)
        await world.run("refused")
        await eventually(lambda: world.has_ended("refused"))
        await _says(replica, "MISCONF")
        (own_valkey.folder / "dump.rdb").rmdir()
        await world.redis.bgsave()
        await world.until("refused", "completed")
        await eventually(replica.is_ready)
    assert await world.statuses("refused") == ["running", "completed"]


async def test_statusz_says_how_many_commands_wait_for_redis(own_world: World, own_valkey: ValkeyServer) -> None:
    world = own_world
    async with world.controller() as replica:

        async def waiting() -> int:
            return int(json.loads((await replica.get("/statusz"))[1])["redis"]["commands_waiting"])

        await world.run("before")
        await world.until("before", "completed")
        own_valkey.stop(kill=True)
        for number in range(3):
            await world.run(f"job-{number}", "sleep 60")

        async def all_wait() -> bool:
            return await waiting() >= 3

        async def none_waits() -> bool:
            return await waiting() == 0

        await eventually(all_wait)
        own_valkey.start()
        for number in range(3):
            await world.until(f"job-{number}", "running")
        await eventually(none_waits)


@pytest.mark.must_survive(24)
@pytest.mark.must_survive(34)
async def test_while_redis_is_down_keys_are_queued_and_the_api_server_keeps_the_logs(
    own_world: World, own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an outage may cost is counted, not timed: a key and a small object for each Job, and so many logs in all."""
    monkeypatch.setattr(workers, "WORKERS", 8)
    monkeypatch.setattr(reconciler, "READS_WHILE_DOWN", 4)
    world, jobs = own_world, 60
    async with world.controller() as replica:
        await world.run("before")
        await world.until("before", "completed")
        own_valkey.stop(kill=True)
        await _says(replica, "redis: ")
        read = len(world.wiretap.of("log"))
        for number in range(jobs):
            _ended(world, f"job-{number}")
        controller = replica.controller
        await eventually(lambda: len(controller._mirror.store) == jobs and len(world.wiretap.of("log")) > read)
        assert len(controller._mirror.queue) >= jobs - 8 - 4, "keys that no worker has taken yet"
        assert len(world.wiretap.of("log")) - read <= 4, "the others' logs are where they were"
        assert controller._made.logs._cached_bytes <= 4 * len(OUTPUT), "bytes of logs"
        reads = [task for task in asyncio.all_tasks() if task.get_name().startswith("log ")]
        assert len(reads) <= 4, "no task for each Job"
        own_valkey.start()

        async def all_told() -> bool:
            return await world.redis.xlen(f"{{{world.prefix}}}:events") >= 2 * (jobs + 1)

        await eventually(all_told)
    published: dict[str, list[str]] = {}
    for event in await world.published():
        published.setdefault(event["job"]["name"], []).append(event["status"])
        assert event.get("output", OUTPUT.decode()) in (OUTPUT.decode(), "")
    assert all(published[f"job-{number}"] == ["running", "completed"] for number in range(jobs))


OUTPUT = b"x" * 1_000


def _ended(world: World, name: str) -> None:
    """A Job that has run and ended, with its Pod and what that printed, written by hand: a process each would take minutes."""
    cluster = world.cluster
    job = cluster.create(make_job(name, managedBy="example.com/nobody"), world.namespace)
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": name,
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
    pod = cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-pod",
                "labels": {"job-name": name, "batch.kubernetes.io/job-name": name},
                "ownerReferences": [owner],
            },
            "spec": {"nodeName": "elsewhere", "containers": [container("main", "true")]},
        },
        world.namespace,
    )
    begin, end = "2026-01-31T12:00:00Z", "2026-01-31T12:00:09Z"
    terminated = {"exitCode": 0, "reason": "Completed", "startedAt": begin, "finishedAt": end}
    status = {"name": "main", "restartCount": 0, "ready": False, "image": "busybox:1", "imageID": "", "state": {}}
    cluster.write_log(pod, "main", OUTPUT)
    cluster.patch_status(
        pod, {"phase": "Succeeded", "containerStatuses": [{**status, "state": {"terminated": terminated}}]}
    )
    done = {"status": "True", "reason": "CompletionsReached", "lastProbeTime": end, "lastTransitionTime": end}
    conditions = [{"type": kind, **done} for kind in ("SuccessCriteriaMet", "Complete")]
    ended = {"startTime": begin, "completionTime": end, "succeeded": 1, "conditions": conditions}
    cluster.patch_status(job, {**ended, "uncountedTerminatedPods": {}})


@pytest.mark.must_survive(27)
async def test_a_row_that_somebody_broke_affects_no_other(world: World) -> None:
    async with world.controller() as replica:
        made = await world.run("broken", suspend=True)
        await world.until("broken", "suspended")
        row = f"{{{world.prefix}}}:job:{made['metadata']['uid']}"
        await world.redis.delete(row)
        await world.redis.set(row, "not a hash")
        await world.patch("broken", {"spec": {"suspend": False}})
        await world.run("whole")
        await world.until("whole", "completed")

        async def is_counted() -> Any:
            return await replica.metric("jobcast_reconcile_errors_total", kind="ledgererror")

        await eventually(is_counted)
        assert await replica.is_ready()
        await world.redis.delete(row)
        await world.until("broken", "completed")


def test_errors_that_alternate_are_each_logged_once() -> None:
    redis_log = RedisLog("redis://:secret@here:6379/0")
    with capture_logs() as lines:
        for error in ("refused", "mute", "refused", "mute", None, "refused", None):
            redis_log.note(error)
    assert [line.get("why") for line in lines] == ["refused", "mute", None, "refused", None]
    assert {line["event"] for line in lines} == {"redis unavailable, retrying", "redis available"}
    assert {line["redis"] for line in lines} == {"redis://:***@here:6379/0"}
