"""The accounts of k8s/base/rbac.yaml in a namespace of the cluster, with a permission less, and a kubeconfig for each."""

import os
from pathlib import Path
from typing import Any

import yaml

from tests.api import Api, Obj

K8S = Path(__file__).parents[2] / "k8s"
RBAC = "apis/rbac.authorization.k8s.io/v1"
FINALIZER = ("patch", "batch/jobs")
"""What the component `finalizer` adds."""


def documents() -> list[Obj]:
    return list(yaml.safe_load_all((K8S / "base" / "rbac.yaml").read_text()))


def granted(part: str) -> list[tuple[str, str]]:
    """Each verb with its resource that the part's Role grants."""
    (role,) = [one for one in documents() if (one["kind"], one["metadata"]["name"]) == ("Role", f"jobcast-{part}")]
    return [(verb, resource) for rule in role["rules"] for resource in _resources(rule) for verb in rule["verbs"]]


def _resources(rule: Obj) -> list[str]:
    return [f"{group}/{name}".removeprefix("/") for group in rule["apiGroups"] for name in rule["resources"]]


def _rule(verb: str, resource: str) -> Obj:
    group, _, name = resource.partition("/") if resource.startswith("batch/") else ("", "", resource)
    return {"apiGroups": [group], "resources": [name], "verbs": [verb]}


async def account(api: Api, part: str, permissions: list[tuple[str, str]], folder: Path) -> Path:
    """A kubeconfig of the part's ServiceAccount, which has these permissions."""
    for obj in documents():
        if obj["metadata"]["name"] != f"jobcast-{part}":
            continue
        if obj["kind"] == "Role":
            obj["rules"] = [_rule(*one) for one in permissions]
        group = "api/v1" if obj["kind"] == "ServiceAccount" else RBAC
        status, published = await api.call(
            "POST", f"/{group}/namespaces/{api.namespace}/{obj['kind'].lower()}s", json=obj
        )
        assert status == 201, published
    path = f"/api/v1/namespaces/{api.namespace}/serviceaccounts/jobcast-{part}/token"
    status, token = await api.call("POST", path, json={"spec": {"expirationSeconds": 3600}})
    assert status == 201, token
    return _kubeconfig(api, part, token["status"]["token"], folder)


def _kubeconfig(api: Api, part: str, token: str, folder: Path) -> Path:
    """The cluster of the current context, with another user."""
    current = yaml.safe_load(Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]).expanduser().read_text())
    (of,) = [one["context"] for one in current["contexts"] if one["name"] == current["current-context"]]
    (cluster,) = [one for one in current["clusters"] if one["name"] == of["cluster"]]
    context = {"cluster": cluster["name"], "user": part, "namespace": api.namespace}
    config: dict[str, Any] = {
        "current-context": part,
        "contexts": [{"name": part, "context": context}],
        "clusters": [cluster],
        "users": [{"name": part, "user": {"token": token}}],
    }
    target = folder / f"{part}.kubeconfig"
    target.write_text(yaml.safe_dump(config))
    return target
