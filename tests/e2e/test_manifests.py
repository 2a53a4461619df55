"""Every way to put k8s/ together, as a real API server takes it, in a namespace that enforces the Pod Security level restricted."""

import asyncio
import copy
import json
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest

from tests.api import Api, Obj
from tests.rendered import COMPONENTS, K8S, KUBECTL, ROOT, kustomization, one, rendered

CHANGING = ("accounts", "cluster-wide", "finalizer", "redis")
"""Components that patch what others make; the rest only add to it, and are tried all together with each of these."""
CUSTOM = ("monitoring.coreos.com/",)
"""Kinds that a cluster has where the Prometheus operator is installed; no API server knows them by itself."""
READY = (K8S, K8S / "overlays" / "demo", K8S / "overlays" / "production", ROOT / "examples" / "handlers")


def chosen() -> list[tuple[str, ...]]:
    adding = tuple(name for name in COMPONENTS if name not in CHANGING)
    some = (choice for count in range(len(CHANGING) + 1) for choice in combinations(CHANGING, count))
    return [(*choice, *adding) for choice in some]


@pytest.fixture
async def restricted(cluster: Api) -> Api:
    # Of what makes Pods the API server only warns; Pods themselves it refuses.
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    await cluster.patch(f"/api/v1/namespaces/{cluster.namespace}", {"metadata": {"labels": labels}})
    return cluster


async def test_everything_is_accepted_however_it_is_put_together(restricted: Api, tmp_path: Path) -> None:
    made = {
        components: kustomization(tmp_path / "-".join(components), components, restricted.namespace)
        for components in chosen()
    }
    assert len(made) == 2 ** len(CHANGING)
    for folder in made.values():
        await accepted(restricted, rendered(folder))


@pytest.mark.parametrize("folder", READY, ids=lambda folder: folder.name)
async def test_what_can_be_applied_as_it_is_is_accepted(restricted: Api, tmp_path: Path, folder: Path) -> None:
    await accepted(
        restricted, [moved(obj, restricted.namespace) for obj in rendered(folder) if obj["kind"] != "Namespace"]
    )


def moved(obj: Obj, namespace: str) -> Obj:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


async def accepted(cluster: Api, objects: Iterable[Obj]) -> None:
    """Fails with what the API server says against it; changes nothing."""
    known = [obj for obj in objects if not obj["apiVersion"].startswith(CUSTOM)]
    made = [moved(pod_of(obj), cluster.namespace) for obj in known if "template" in obj.get("spec", {})]
    assert made
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*known, *made]})
    command = [KUBECTL, "create", "--dry-run=server", "--warnings-as-errors", "--filename", "-"]
    process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1, stderr=-1)
    said, wrong = await process.communicate(listed.encode())
    assert process.returncode == 0, wrong.decode()
    assert len(said.splitlines()) == len(known) + len(made)


def pod_of(owner: Obj) -> Obj:
    """As its controller would make it; without the account, which a dry run has not made."""
    template = owner["spec"]["template"]
    spec = {name: value for name, value in template["spec"].items() if name != "serviceAccountName"}
    claims = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", ())]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": owner["metadata"]["name"]},
        "spec": {**spec, "volumes": [*spec.get("volumes", ()), *volumes]},
    }


async def test_what_is_not_restricted_is_refused(restricted: Api) -> None:
    controller = copy.deepcopy(one(rendered(K8S), "Deployment", "jobcast-controller"))
    controller["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(
        AssertionError, match='pods "jobcast-controller" is forbidden: violates PodSecurity "restricted'
    ):
        await accepted(restricted, [moved(controller, restricted.namespace)])
