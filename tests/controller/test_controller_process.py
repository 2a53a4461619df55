"""The controller as a process: signals, exit codes, settings, and what it says of itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from testbed.faultproxy import FaultProxy
from testbed.ports import free_port
from testbed.valkey import ValkeyServer
from tests.conftest import eventually
from tests.controller.processes import Process
from tests.controller.world import World

SECRET = "s3cr3t-p4ss"


async def _ends(process: Process, code: int) -> list[str]:
    """Its lines on stderr, once it has ended with this code and without a traceback."""
    with process:
        assert await process.exit_code() == code, process.errors
        assert "Traceback" not in process.errors + process.output
        assert SECRET not in process.errors + process.output
    return process.errors.splitlines()


@pytest.mark.must_survive(31)
async def test_sigterm_ends_it_with_0_well_within_the_grace_period(world: World, tmp_path: Path) -> None:
    with Process(world, tmp_path, GRACE_SECONDS="60") as process:
        await process.ready()
        await world.run("ended")
        await world.run("open", "sleep 60")
        await world.until("ended", "completed")
        await world.until("open", "running")
        begun = time.monotonic()
        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0
        assert time.monotonic() - begun < 30
        assert [line["event"] for line in map(json.loads, process.errors.splitlines())][-1] == "controller stopped"


@pytest.mark.must_survive(31)
async def test_sigterm_finishes_what_is_in_hand_and_leaves_the_rest_to_the_next(
    world: World, tmp_path: Path, valkey: ValkeyServer
) -> None:
    async with FaultProxy(valkey.port) as proxy:
        with Process(world, tmp_path, REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0") as process:
            await _something_in_hand(world, process, proxy)
            process.signal(signal.SIGTERM)
            await eventually(lambda: process.lines("controller stopping"))
            assert await world.statuses("unpublished") == []
            proxy.flow()
            assert await process.exit_code() == 0
    assert await world.statuses("unpublished") == ["running"]
    await world.delete("unpublished")
    async with world.controller():
        await world.until("unpublished", "cancelled")
    assert await world.statuses("unpublished") == ["running", "cancelled"]


@pytest.mark.must_survive(31)
async def test_sigterm_while_redis_is_mute_gives_up_within_the_grace_period(
    world: World, tmp_path: Path, valkey: ValkeyServer
) -> None:
    async with FaultProxy(valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with Process(world, tmp_path, GRACE_SECONDS="2", REDIS_URL=url) as process:
            await _something_in_hand(world, process, proxy)
            begun = time.monotonic()
            process.signal(signal.SIGTERM)
            assert await process.exit_code() == 0
            assert 0.5 < time.monotonic() - begun < 30


@pytest.mark.must_survive(31)
async def test_a_second_signal_ends_it_at_once(world: World, tmp_path: Path, valkey: ValkeyServer) -> None:
    async with FaultProxy(valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with Process(world, tmp_path, GRACE_SECONDS="60", REDIS_URL=url) as process:
            await _something_in_hand(world, process, proxy)
            process.signal(signal.SIGTERM)
            await eventually(lambda: process.lines("controller stopping"))
            assert process.popen.poll() is None, "it waits for Redis, as long as it may"
            begun = time.monotonic()
            process.signal(signal.SIGINT)
            assert await process.exit_code() == 1
            assert time.monotonic() - begun < 30


async def _something_in_hand(world: World, process: Process, proxy: FaultProxy) -> None:
    """A Job that it is about to publish, and cannot: until Redis answers, only that waits, and the question for the epoch."""
    await process.ready()
    proxy.stall()
    await world.run("unpublished", "sleep 60")

    async def two_wait() -> bool:
        return bool(json.loads((await process.get("/statusz"))[1])["redis"]["commands_waiting"] >= 2)

    await eventually(two_wait)
    await eventually(lambda: process.lines("redis unavailable, retrying"))


@pytest.mark.must_survive(36)
async def test_wrong_settings_are_refused_with_a_line_each(world: World, tmp_path: Path) -> None:
    wrong = {
        "HTTP_PORT": "eighty",
        "LOG_CONCURRENCY": "0",
        "NAMESPACES": "Not_A_Namespace",
        "LABEL_SELECTOR": "app in",
        "KEY_PREFIX": "{brace}",
        "LOG_LEVEL": "loud",
        "REDIS_URL": f"http://user:{SECRET}@redis:6379/0",
    }
    lines = await _ends(Process(world, tmp_path, **wrong), 2)
    assert sorted(line.split(":")[0] for line in lines) == sorted(wrong)
    assert all(len(line) > len(line.split(":")[0]) + 10 for line in lines), "each says what would be right"


@pytest.mark.must_survive(36)
@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "not: [a, kubeconfig",
        "apiVersion: v1\nkind: Config\n",
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "users": [{"name": "u", "user": {}}],
                "clusters": [
                    {
                        "name": "k",
                        "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": "bm90IFBFTQ=="},
                    }
                ],
            }
        ),
    ],
    ids=["missing", "empty", "not-yaml", "without-context", "broken-certificate"],
)
@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["run", "check"])
async def test_an_invalid_kubeconfig_is_a_wrong_setting(
    world: World, tmp_path: Path, config: str | None, arguments: tuple[str, ...]
) -> None:
    path = tmp_path / "other-kubeconfig"
    if config is not None:
        path.write_text(config)
    process = Process(world, tmp_path, *arguments, KUBECONFIG=str(path))
    lines = await _ends(process, 2) or process.output.splitlines()
    assert len(lines) == 1, lines
    assert "KUBECONFIG: " in lines[0]
    assert str(path) in lines[0] or "certificates" in lines[0]


async def test_a_cluster_that_does_not_answer_keeps_it_waiting_and_not_ready(world: World, tmp_path: Path) -> None:
    path = _kubeconfig_to(f"http://127.0.0.1:{free_port()}", tmp_path)
    with Process(world, tmp_path, KUBECONFIG=str(path)) as process:
        await process.started()

        async def says_why() -> bool:
            status, why = await process.get("/readyz")
            return status == 503 and "no answer from the API server" in why

        await eventually(says_why)
        assert (await process.get("/livez"))[0] == 200


async def test_a_port_that_is_taken_is_named(world: World, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lines = await _ends(Process(world, tmp_path, HTTP_PORT=str(port)), 1)
    assert lines[-1].startswith(f"HTTP_PORT: {port}: cannot listen on 127.0.0.1: ")


async def test_unknown_arguments_are_refused_with_the_usage(world: World, tmp_path: Path) -> None:
    (line,) = await _ends(Process(world, tmp_path, "--chek"), 2)
    assert "--chek" in line
    assert "python -m controller [--check]" in line


async def test_a_check_without_problems_ends_with_0(world: World, tmp_path: Path) -> None:
    with Process(world, tmp_path, "--check") as process:
        assert await process.exit_code() == 0
    assert [line.split()[0] for line in process.output.splitlines()] == ["ok"] * 4
    assert process.errors == ""


@pytest.mark.must_survive(6)
@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ({"verb": "watch", "resource": "jobs"}, "may not watch jobs in {namespace}: add it to the Role"),
        ({"verb": "log"}, "may not get pods/log in {namespace}: add it to the Role"),
    ],
    ids=["watch-jobs", "logs"],
)
async def test_a_check_names_each_permission_that_is_missing(
    world: World, tmp_path: Path, fault: dict[str, Any], line: str
) -> None:
    world.fault("status", code=403, times=None, **fault)
    with Process(world, tmp_path, "--check") as process:
        assert await process.exit_code() == 1
    broken = [found for found in process.output.splitlines() if found.startswith("broken")]
    assert len(broken) == 1
    assert line.format(namespace=world.namespace) in broken[0]


async def test_a_check_says_of_each_namespace_what_is_granted_there(world: World, tmp_path: Path) -> None:
    world.fault("status", code=403, times=None, verb="watch", resource="jobs", namespace=world.namespace)
    with Process(world, tmp_path, "--check", NAMESPACES=f"{world.namespace},default") as process:
        assert await process.exit_code() == 1
    said = process.output.splitlines()
    everything = "list jobs, watch jobs, get jobs/status, list pods, watch pods, get pods/log"
    assert f"ok      permissions: this account may {everything} in default" in said
    assert not any(line.startswith("ok      permissions") and world.namespace in line for line in said), said


async def test_a_check_names_everything_that_is_broken_at_once(world: World, tmp_path: Path) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"
    path = _kubeconfig_to(f"http://127.0.0.1:{free_port()}", tmp_path)
    process = Process(world, tmp_path, "--check", REDIS_URL=url, KUBECONFIG=str(path))
    assert await _ends(process, 1) == []
    cluster, redis = process.output.splitlines()
    assert cluster.startswith("broken  cluster: no answer from the API server: ")
    assert redis.startswith("broken  redis: REDIS_URL redis://:***@127.0.0.1:")


async def test_a_check_of_something_that_is_no_cluster_says_so(world: World, tmp_path: Path) -> None:
    """A web server answers 200 with HTML to everything."""
    async with world.controller() as replica:
        path = _kubeconfig_to(f"{replica.url}/livez?", tmp_path)
        process = Process(world, tmp_path, "--check", KUBECONFIG=str(path))
        await _ends(process, 1)
    assert process.output.startswith("broken  cluster: ")


METRICS = """events_total event_latency_seconds watch_last_byte_age_seconds watch_restarts_total jobs queue_depth
reconcile_seconds reconcile_errors_total log_bytes_total log_reads_total redis_up ledger_answers_total
finalizers_held finalizers_released_unpublished_total build_info"""


async def test_it_shows_what_it_promises_to_and_no_secret(world: World, tmp_path: Path, valkey: Any) -> None:
    await world.redis.execute_command("ACL", "SETUSER", "teller", "on", f">{SECRET}", "~*", "&*", "+@all")
    url = f"redis://teller:{SECRET}@127.0.0.1:{valkey.port}/0"
    with Process(world, tmp_path, REDIS_URL=url, LOG_LEVEL="debug") as process:
        await process.ready()
        await world.run("shown", "echo shown")
        await world.until("shown", "completed")
        metrics, statusz = (await process.get("/metrics"))[1], (await process.get("/statusz"))[1]
        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0
    for name in METRICS.split():
        assert f"# TYPE jobcast_{name} " in metrics, name
    assert 'jobcast_events_total{status="completed"} 1.0' in metrics
    assert 'jobcast_build_info{version="' in metrics
    assert not [line for line in metrics.splitlines() if "shown" in line], "labels are bounded: no Job's name"
    status = json.loads(statusz)
    assert (status["ready"], status["alive"]) == ("yes", "yes")
    assert {watch["resource"] for watch in status["watches"]} == {"jobs", "pods"}
    for text in (metrics, statusz, process.errors, process.output):
        assert SECRET not in text
        assert "Bearer" not in text


async def test_every_line_of_its_log_is_json_with_a_constant_event(world: World, tmp_path: Path) -> None:
    with Process(world, tmp_path) as process:
        await process.ready()
        for name in ("one", "two"):
            await world.run(name)
            await world.until(name, "completed")
        world.strike("cut", verb="watch")
        port = process.lines("controller started")[0]["http"]
        with socket.create_connection(("127.0.0.1", port)) as garbage:
            garbage.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
            garbage.recv(100)
        await eventually(lambda: process.lines("watch interrupted"))
        process.signal(signal.SIGTERM)
        assert await process.exit_code() == 0
    lines = [json.loads(line) for line in process.errors.splitlines()]
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    published = [line for line in lines if line["event"] == "published"]
    assert {line["eval_id"] for line in published} == {"one", "two"}
    assert not [line["event"] for line in lines if "one" in line["event"] or world.namespace in line["event"]]


@pytest.mark.must_survive(37)
def test_a_traceback_on_a_terminal_shows_no_variables() -> None:
    """They hold tokens and passwords."""
    code = f"""
import logging
from jobcast.service.logging import configure
from controller.settings import ControllerSettings
configure(ControllerSettings(log_format="console"))
def fail(token):
    raise RuntimeError("what went wrong")
try:
    fail("".join(reversed({SECRET[::-1]!r})))
except RuntimeError:
    logging.getLogger("controller").exception("it failed")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, cwd=os.getcwd())
    assert "what went wrong" in ended.stderr
    assert SECRET not in ended.stderr


def _kubeconfig_to(server: str, folder: Path) -> Path:
    config = json.loads(Path(os.environ["KUBECONFIG"]).read_text())
    config["clusters"][0]["cluster"]["server"] = server
    path = folder / "other-kubeconfig"
    path.write_text(json.dumps(config))
    return path
