"""jobcast doctor: each fault has its line, with what to do; and the command ends even if something hangs."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devcluster import DevCluster, Fault
from jobcast import __version__
from jobcast.cli.commands.doctor import of_cluster
from jobcast.doctor import pods
from jobcast.service.membership import SCRIPT, Member, joining
from jobcast.service.settings import CoreSettings
from testbed.valkey import ValkeyServer
from tests.api import Api, client, evaluation
from tests.cli.operating import Stage, ago
from tests.client.telling import event

Found = list[dict[str, str]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
NOTHING = {"KUBECONFIG": "/dev/null/none"}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """A cluster that is found."""
    async with DevCluster() as cluster, client(cluster.url, None, {}, cluster) as api:
        cluster.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield api


def of(found: Found, about: str) -> list[str]:
    return [f"{one['verdict']}: {one['text']}" for one in found if one["about"] == about]


def examined(call: Run, *arguments: str, code: int = 1, **more: str) -> Found:
    """Of Redis alone; no controller is there, which is broken."""
    result = call("doctor", "--json", *arguments, **NOTHING, **more)
    assert (result.returncode, result.stderr) == (code, ""), result
    found: Found = json.loads(result.stdout)
    return found


async def looked(api: Api, **settings: Any) -> Found:
    """Of the cluster; in this process, which has one to run."""
    found = await of_cluster(CoreSettings(namespaces=(api.namespace,), **settings), api.namespace)
    return [one._asdict() for one in found]


def announce(stage: Stage, kind: str = "controller", name: str = "c", **more: Any) -> None:
    part = Member(
        **{"kind": kind, "name": name, "version": __version__, "namespaces": ("evals",), "selector": "app=x", **more}
    )
    stage.client.eval(SCRIPT, 1, stage.keys.parts, *joining(part))


def test_a_good_installation_is_all_ok(call: Run, stage: Stage) -> None:
    announce(stage)
    announce(stage, name="c2")
    announce(stage, "worker", "w")
    found = examined(call, code=2)  # there is no cluster to be found
    assert of(found, "members") == [
        f"ok: controller: 2 running, version {__version__}, app=x in evals",
        f"ok: worker: 1 running, version {__version__}, app=x in evals",
    ]
    assert of(found, "dead letters") == ["ok: none"]
    assert of(found, "stream") == ["ok: it has no consumer groups yet"]
    assert of(found, "leftovers") == ["ok: none"]
    assert of(found, "account") == [
        "ok: account default may read (subscriber), publish (controller), handle (worker), replay (operator)"
    ]
    assert of(found, "redis")[0].startswith("ok: it answers, valkey ")
    assert of(found, "kubeconfig")[0].startswith("broken: no kubeconfig at /dev/null/none")
    assert stage.client.keys(f"{{{stage.keys.prefix}}}:*") == [stage.keys.parts], "it has only looked"


def test_leftovers_are_reported_and_repaired_only_when_asked_to(call: Run, stage: Stage) -> None:
    announce(stage)
    keys = stage.keys
    stage.client.hset(keys.job("gone"), "status", "completed")
    stage.client.hset(keys.job("open"), mapping={"status": "running", "created": "7"})
    stage.client.hset(keys.lanes(), "42", "1-1")
    left = "keys without an expiry: 1, Jobs missing among the open ones: 1, unused ordering keys: 1"
    for _ in range(2):
        assert of(examined(call, code=2), "leftovers") == [f"warning: {left}"]
        assert stage.client.ttl(keys.job("gone")) == -1
    found = examined(call, "--repair", code=2, RETENTION_SECONDS="1000")
    assert of(found, "leftovers") == [f"ok: repaired {left}"]
    assert 900 < stage.client.ttl(keys.job("gone")) <= 1000  # type: ignore[operator]
    assert stage.client.ttl(keys.job("open")) == -1
    assert stage.client.zrange(keys.open, 0, -1) == ["open"]
    assert not stage.client.exists(keys.lanes())
    assert of(examined(call, "--repair", code=2), "leftovers") == ["ok: none"]


def test_a_missing_controller_is_reported_with_when_one_was_last_seen(call: Run, stage: Stage) -> None:
    announce(stage, "worker", "w")
    seen = int(stage.client.time()[0]) - 90  # type: ignore[index,operator]
    gone = {"kind": "controller", "name": "c", "version": "1", "seen": seen}
    stage.client.hset(stage.keys.parts, "controller:c", json.dumps(gone))
    (controller, worker) = of(examined(call, code=2), "members")
    assert controller.startswith("broken: no controller is running; c was last seen 9")
    assert worker.startswith("ok: worker: 1 running")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"selector": "app=y"}, "two installations share this prefix: controller c watches app=x in evals, worker w"),
        ({"version": "99.0.0"}, f"an older controller ({__version__}, c) runs beside a newer worker (99.0.0, w)"),
        ({"version": "0.0.1"}, f"an older worker (0.0.1, w) runs beside a newer controller ({__version__}, c)"),
    ],
)
def test_members_that_conflict_are_named(call: Run, stage: Stage, more: dict[str, str], said: str) -> None:
    announce(stage)
    announce(stage, "worker", "w", **more)
    assert of(examined(call, code=2), "members")[-1].startswith(f"warning: {said}")


def test_groups_and_dead_letters_are_reported(call: Run, stage: Stage) -> None:
    stage.tell(event("running"), entry=ago(7200))
    stage.client.xgroup_create(stage.keys.events, "dead", id="0")
    stage.client.xgroup_create(stage.keys.events, "slow", id="0")
    stage.client.xgroup_create(stage.keys.events, "well", id="$")
    stage.client.xreadgroup("slow", "one", {stage.keys.events: ">"})
    stage.bury()
    found = examined(call, code=2)
    dead, slow, well = of(found, "stream")
    assert dead == "warning: group dead of events is dead, 1 unread, 0 pending: the stream is trimmed without it"
    assert slow.startswith("warning: group slow of events is behind: 0 unread, 1 pending, the oldest delivered 72")
    assert well == "ok: group well of events: 0 unread, 0 pending"
    assert of(found, "dead letters") == ["warning: 1 kept"]


def test_a_redis_that_loses_data_or_is_a_replica_is_broken(call: Run, own_valkey: ValkeyServer) -> None:
    ask = own_valkey.ask
    url = {"REDIS_URL": own_valkey.url}
    assert of(examined(call, code=2, **url), "persistence") == [
        "warning: no append-only file: a restart loses what was acknowledged since the last snapshot, or everything"
    ]
    ask("CONFIG", "SET", "appendonly", "yes", "maxmemory-policy", "allkeys-lru", "maxmemory", "1000000000")
    found = examined(call, code=2, **url)
    assert of(found, "persistence") == ["ok: append-only file is on"]
    assert of(found, "memory") == ["broken: maxmemory-policy is allkeys-lru: a full Redis evicts what was published"]
    ask("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    assert of(examined(call, code=2, **url), "memory")[0].startswith("warning: maxmemory-policy is volatile-ttl")
    used = ask("INFO", "memory")["used_memory"]
    ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", str(int(used / 0.9)))
    assert "of maxmemory is used" in of(examined(call, code=2, **url), "memory")[0]
    ask("REPLICAOF", "127.0.0.1", "1")
    assert "broken: it is a replica, which takes no writes" in of(examined(call, code=2, **url), "redis")


def test_a_wrong_password_and_a_redis_that_is_down_are_reported_once(call: Run, own_valkey: ValkeyServer) -> None:
    own_valkey.ask("ACL", "SETUSER", "default", "resetpass", ">right")
    where = f"127.0.0.1:{own_valkey.port}"
    for url, said in (
        (f"redis://:hunter2@{where}", "the user name or password in REDIS_URL is wrong"),
        (own_valkey.url, "REDIS_URL needs a password"),
        ("redis://127.0.0.1:1", "127.0.0.1:1: Error"),
    ):
        found = examined(call, code=2, REDIS_URL=url)
        assert [one["about"] for one in found] == ["kubeconfig", "redis"]
        assert said in found[1]["text"]
        assert "hunter2" not in str(found)


def test_an_account_that_may_not_look_sees_what_is_unknown(call: Run, own_valkey: ValkeyServer) -> None:
    own_valkey.ask("ACL", "SETUSER", "some", "on", ">pw", "-@all", "+hgetall", "+xread", "~*")
    found = examined(call, code=2, REDIS_URL=f"redis://some:pw@127.0.0.1:{own_valkey.port}")
    assert of(found, "account")[0] == (
        "ok: this account may read (subscriber); not publish (controller), handle (worker), replay (operator)"
    )
    assert of(found, "redis") == [
        "ok: it answers",
        "unknown: this account may not ask for version, persistence and memory (INFO)",
    ]
    assert {one["verdict"] for one in found if one["about"] in ("stream", "members", "dead letters", "clocks")} == {
        "unknown"
    }
    own_valkey.ask("ACL", "SETUSER", "some", "-hgetall", "-xread", "+info")
    assert of(examined(call, code=2, REDIS_URL=f"redis://some:pw@127.0.0.1:{own_valkey.port}"), "account")[
        0
    ].startswith("broken: this account has the permissions of no role; it lacks read (subscriber): HGETALL, XREAD")


def test_a_wrong_setting_is_a_line_and_code_2(call: Run) -> None:
    result = call("doctor", NAMESPACES="No_Name")
    assert (result.returncode, result.stdout) == (2, "")
    assert "NAMESPACES" in result.stderr


async def test_the_cluster_is_checked_permission_by_permission(api: Api) -> None:
    await api.create(evaluation("one"))
    found = await looked(api)
    assert of(found, "cluster")[0].startswith("ok: http://127.0.0.1:")
    assert of(found, "jobs") == [f"ok: LABEL_SELECTOR app=evaluation selects 1 Jobs in {api.namespace}"]
    assert of(found, "permissions") == [
        f"ok: this account may list jobs, watch jobs, get jobs/status, list pods, watch pods, get pods/log in {api.namespace}"
    ]
    assert of(found, "pods") == [f"warning: there is no Pod of Jobcast in {api.namespace}"]
    assert api.devcluster is not None
    api.devcluster.faults.add(Fault(kind="status", code=403, verb="watch", resource="jobs", times=None))
    found = await looked(api, label_selector="app=none")
    assert of(found, "permissions") == [f"broken: this account may not watch jobs in {api.namespace}"]
    (jobs,) = [one for one in found if one["about"] == "jobs"]
    assert jobs["verdict"] == "warning"
    assert jobs["text"] == f"LABEL_SELECTOR app=none selects no Job in {api.namespace}, but there are others"
    assert jobs["todo"] == f"label the Jobs, such as {api.namespace}/one, or change LABEL_SELECTOR"
    api.devcluster.faults.add(Fault(kind="status", code=403, verb="list", resource="pods", times=None))
    found = await looked(api)
    assert of(found, "permissions")[-1] == f"broken: this account may not list pods in {api.namespace}"
    assert of(found, "pods") == [f"unknown: this account may not list the Pods in {api.namespace}"]


SOON = "doctor.examined.__defaults__ = (0.5,); doctor.REDIS_SECONDS = (0.5, 0.5)"
"""In place of eight seconds."""
NO_NAMES = "socket.getaddrinfo = lambda *given, **more: time.sleep(600)"
"""A resolver that does not answer."""


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "jobcast-redis" not found'}},
            'CreateContainerConfigError: secret "jobcast-redis" not found',
        ),
        ({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}, "ImagePullBackOff: Back-off"),
        ({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}, "CrashLoopBackOff: back-off 40s"),
    ],
)
def test_a_pod_that_does_not_start_says_why(status: dict[str, Any], said: str) -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "n", "labels": {pods.COMPONENT: "controller"}},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "controller", "state": status}]},
    }
    (finding,) = pods.findings([msgspec.convert(pod, pods.Pod)], "n")
    assert finding.verdict == "broken"
    assert finding.text == f"p does not start: {said}"
    assert finding.todo


def test_whatever_hangs_it_ends_within_ten_seconds(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        config = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "x", "user": {"token": "t"}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        given = environment | {"KUBECONFIG": str(tmp_path / "kubeconfig"), "REDIS_URL": "redis://redis:6379"}
        code = f"import jobcast.cli.commands.doctor as doctor, socket, time; {SOON}; {NO_NAMES}; from jobcast.cli import main; main()"
        began = time.monotonic()
        result = subprocess.run(
            [sys.executable, "-c", code, "doctor", "--json"], env=given, capture_output=True, text=True, timeout=90
        )
    found = json.loads(result.stdout)
    assert time.monotonic() - began < 60, "it waited for what hangs"
    assert result.returncode == 1
    assert of(found, "cluster") == ["broken: no answer within 0.5 s"]
    assert of(found, "redis") == ["broken: no answer within 0.5 s"]


def test_redis_is_checked_even_without_what_a_cluster_needs(environment: dict[str, str], valkey: ValkeyServer) -> None:
    code = "import sys; sys.modules['aiohttp'] = None; from jobcast.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json"], env=environment, capture_output=True, text=True, timeout=90
    )
    found = json.loads(result.stdout)
    assert of(found, "cluster") == ["warning: not checked: the extra for it is not installed"]
    assert of(found, "redis")[0].startswith("ok: it answers")


def test_people_get_a_line_each_and_what_to_do_below(call: Run) -> None:
    result = call("doctor", **NOTHING)
    assert "broken  members      no controller is running\n" in result.stdout
    assert "                     → kubectl get pods -l app.kubernetes.io/component=controller\n" in result.stdout
