"""Each permission that the Roles grant is needed: without it something breaks, and /readyz, doctor and the log say which it is.

The accounts are those of k8s/base/rbac.yaml; controller and worker run with a token of theirs.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from jobcast.jobs.model import FINALIZER as FINALIZER_NAME
from testbed.pages import page
from testbed.valkey import ValkeyServer
from tests.api import Api, evaluation
from tests.client.telling import event, telling_to
from tests.conftest import eventually
from tests.e2e.accounts import FINALIZER, account, granted
from tests.parts import Part, Parts, Told

JOBCAST = str(Path(sys.executable).parent / "jobcast")
CONTROLLER, WORKER = granted("controller"), granted("worker")


def readyz(part: Part) -> str:
    return page(part.port, "/readyz")[1]


async def doctor(kubeconfig: Path, valkey: ValkeyServer, **more: str) -> list[str]:
    """What it says of permissions, asked with the account itself."""
    environment = {"KUBECONFIG": str(kubeconfig), "REDIS_URL": valkey.url, **more}
    process = await asyncio.create_subprocess_exec(JOBCAST, "doctor", "--json", env=environment, stdout=-1)
    out, _ = await process.communicate()
    return [f"{one['verdict']}: {one['text']}" for one in json.loads(out) if one["about"] == "permissions"]


def named(permission: tuple[str, str]) -> str:
    verb, resource = permission
    return f"{verb} {resource.removeprefix('batch/')}"


async def not_ready(part: Part, cluster: Api, published: Told) -> None:
    """Lists or watches are refused: it is not ready, and tells nothing."""
    await cluster.create(evaluation("one", "true"))
    await cluster.ended("one")
    assert not part.answers("/readyz")
    assert published.heard == []


async def no_end_of_what_vanished(part: Part, cluster: Api, published: Told) -> None:
    """A Job that went while nobody looked is not published as cancelled, and tried again and again."""
    await eventually(lambda: "reconcile failed, retrying" in part.log.read_text(), 30)
    assert published.heard == []


async def no_log(part: Part, cluster: Api, published: Told) -> None:
    """The end is published, without its log."""
    await cluster.create(evaluation("one", "echo hello"))
    end = await published.end_of("one")
    assert (end["status"], end["log"]["state"], end["output"]) == ("completed", "unavailable", "")
    assert end["log"]["reason"] == "refused"


async def not_held(part: Part, cluster: Api, published: Told) -> None:
    """The Job is published, and not held."""
    await cluster.create(evaluation("one", "true"))
    await published.end_of("one")
    job = await cluster.get(f"{cluster.jobs}/one")
    assert FINALIZER_NAME not in job["metadata"].get("finalizers", [])


async def one_vanishes(valkey: ValkeyServer, cluster: Api) -> None:
    """A Job that Redis knows, and that has gone."""
    async with telling_to(valkey.url, "evaluation") as teller:
        await teller.see("vanished", replace(event("running").job, namespace=cluster.namespace))


Effect = Callable[[Part, Api, Told], Awaitable[None]]
OF_THE_CONTROLLER: dict[tuple[str, str], Effect] = {
    ("get", "batch/jobs/status"): no_end_of_what_vanished,
    ("list", "batch/jobs"): not_ready,
    ("watch", "batch/jobs"): not_ready,
    ("list", "pods"): not_ready,
    ("watch", "pods"): not_ready,
    ("get", "pods/log"): no_log,
    FINALIZER: not_held,
}


def test_every_permission_of_the_controllers_role_has_its_test() -> None:
    assert {*CONTROLLER, FINALIZER} == set(OF_THE_CONTROLLER)


@pytest.mark.parametrize("missing", OF_THE_CONTROLLER, ids=named)
async def test_without_one_permission_the_controller_says_which(
    cluster: Api, parts: Parts, published: Told, own_valkey: ValkeyServer, tmp_path: Path, missing: tuple[str, str]
) -> None:
    finalizer = {"FINALIZER": "true"} if missing == FINALIZER else {}
    kubeconfig = await account(cluster, "controller", [one for one in CONTROLLER if one != missing], tmp_path)
    if OF_THE_CONTROLLER[missing] is no_end_of_what_vanished:
        await one_vanishes(own_valkey, cluster)
    part = parts.start_controller(KUBECONFIG=str(kubeconfig), **finalizer)
    role = "the Role and RoleBinding jobcast-controller (k8s/base/rbac.yaml)"
    said = f"this account may not {named(missing)} in {cluster.namespace}: add it to {role}"
    await eventually(lambda: said in part.log.read_text(), 30)
    assert part.log.read_text().count(said) == 1
    if OF_THE_CONTROLLER[missing] is not not_ready:
        await eventually(lambda: readyz(part) == f"ok\nwarning: {said}\n", 10)
    else:
        assert "forbidden" in readyz(part)
    assert await doctor(kubeconfig, own_valkey, **finalizer) == [
        f"broken: this account may not {named(missing)} in {cluster.namespace}"
    ]
    await OF_THE_CONTROLLER[missing](part, cluster, published)


async def no_sweep(part: Part, cluster: Api, published: Told) -> None:
    """Nothing is published that the controller missed, and the worker is not ready."""
    await cluster.create(evaluation("one", "sleep 60"))
    await sweep_is_refused(part, cluster, published)
    assert published.heard == []


async def sweep_is_refused(part: Part, cluster: Api, published: Told) -> None:
    """A Job that went while nobody looked is not published as cancelled, and the worker is not ready."""
    await eventually(lambda: "sweep: " in readyz(part) and "forbidden" in readyz(part), 30)
    line = next(line for line in part.log.read_text().splitlines() if "sweep failed" in line)
    assert "forbidden" in line
    assert published.heard == []


OF_THE_WORKER: dict[tuple[str, str], Effect] = {
    ("get", "batch/jobs/status"): sweep_is_refused,
    ("list", "batch/jobs"): no_sweep,
    ("list", "pods"): no_sweep,
    ("get", "pods/log"): no_log,
    FINALIZER: not_held,
}


def test_every_permission_of_the_workers_role_has_its_test() -> None:
    assert {*WORKER, FINALIZER} == set(OF_THE_WORKER)


@pytest.mark.parametrize("missing", OF_THE_WORKER, ids=named)
async def test_without_one_permission_the_worker_says_which(
    cluster: Api, parts: Parts, published: Told, own_valkey: ValkeyServer, tmp_path: Path, missing: tuple[str, str]
) -> None:
    kubeconfig = await account(cluster, "worker", [one for one in WORKER if one != missing], tmp_path)
    if missing == ("get", "batch/jobs/status"):
        await one_vanishes(own_valkey, cluster)
    finalizer = {"FINALIZER": "true"} if missing == FINALIZER else {}
    part = parts.start_worker(KUBECONFIG=str(kubeconfig), SWEEP_SECONDS="0.5", LOG_WAIT_SECONDS="1", **finalizer)
    await OF_THE_WORKER[missing](part, cluster, published)
    said = f"broken: this account may not {named(missing)} in {cluster.namespace}"
    assert await doctor(kubeconfig, own_valkey, **finalizer) == [said]


async def test_with_all_of_them_both_do_their_work_and_nothing_is_missed(
    cluster: Api, parts: Parts, published: Told, own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    kubeconfig = await account(cluster, "controller", [*CONTROLLER, FINALIZER], tmp_path)
    controller = await parts.controller(KUBECONFIG=str(kubeconfig), FINALIZER="true")
    of_the_worker = await account(cluster, "worker", [*WORKER, FINALIZER], tmp_path)
    worker = parts.start_worker(KUBECONFIG=str(of_the_worker), SWEEP_SECONDS="0.5", FINALIZER="true")
    await cluster.create(evaluation("one", "echo hello; exit 3"))
    end = await published.end_of("one")
    assert (end["status"], end["exit_code"], end["output"]) == ("failed", 3, "hello\n")
    await eventually(lambda: readyz(worker) == "ok\n", 30)
    assert readyz(controller) == "ok\n"
    may = "list jobs, watch jobs, get jobs/status, list pods, watch pods, get pods/log, patch jobs"
    assert await doctor(kubeconfig, own_valkey, FINALIZER="true") == [
        f"ok: this account may {may} in {cluster.namespace}"
    ]
    assert "watch" not in (await doctor(of_the_worker, own_valkey, FINALIZER="true"))[0]
    for part in (controller, worker):
        assert "forbidden" not in part.log.read_text()


async def test_with_the_finalizers_permission_the_worker_alone_holds_a_job(
    cluster: Api, parts: Parts, tmp_path: Path
) -> None:
    kubeconfig = await account(cluster, "worker", [*WORKER, FINALIZER], tmp_path)
    parts.start_worker(KUBECONFIG=str(kubeconfig), SWEEP_SECONDS="0.5", FINALIZER="true")
    await cluster.create(evaluation("one", "sleep 60"))
    await cluster.job_of("one", lambda job: FINALIZER_NAME in job["metadata"].get("finalizers", []))
    await cluster.patch(f"{cluster.jobs}/one", {"metadata": {"finalizers": None}})
    await cluster.delete(f"{cluster.jobs}/one")
