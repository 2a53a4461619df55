"""Everything under k8s/ that can be applied: known to Kubernetes, restricted, and of one piece."""

import hashlib
import json
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest

from jobcast import __version__
from tests.rendered import COMPONENTS, K8S, ROOT, Obj, kustomization, one, pods, rendered

OLDEST, NEWEST = "1.31", "1.37"
"""The oldest has all that is used here: evictions of what is not ready became stable in it."""
CUSTOM = ("monitoring.coreos.com/",)
"""Kinds that a cluster knows where somebody has installed them: no Kubernetes has a schema of them."""
READY = {path.name: path for path in (*(K8S / "overlays").iterdir(), K8S, ROOT / "examples" / "handlers")}


@pytest.fixture(params=[*READY, "all components"])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Obj, ...]:
    """Every other way to put components together is for a real API server: tests/e2e/test_manifests.py."""
    return rendered(READY.get(request.param) or with_all_components(tmp_path_factory.getbasetemp()))


@cache
def with_all_components(folder: Path) -> Path:
    return kustomization(folder / "all-components", COMPONENTS)


def test_kubernetes_knows_every_field(objects: tuple[Obj, ...]) -> None:
    for obj in objects:
        if not obj["apiVersion"].startswith(CUSTOM):
            validate(json.dumps(obj))


@cache
def validate(text: str) -> None:
    """Each object once: most are the same with and without a component."""
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        validate(json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replica": 2}}))


def test_every_pod_is_restricted_and_says_what_it_needs(objects: tuple[Obj, ...]) -> None:
    for name, pod in pods(objects).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["enableServiceLinks"] is False, name
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"], name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} == set(container["resources"]["requests"]), name
            assert {"memory"} == set(container["resources"]["limits"]), f"{name}: a limit of CPU delays events"
            assert {"startupProbe", "readinessProbe", "livenessProbe"} < set(container), name


def test_every_name_that_a_pod_refers_to_is_there_or_is_said_to_be_needed(objects: tuple[Obj, ...]) -> None:
    has = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
    for name, pod in pods(objects).items():
        assert referred(pod["spec"]) - has <= NEEDED, name


NEEDED = {("Secret", name) for name in ("jobcast-redis", "jobcast-redis-controller", "jobcast-redis-worker")}
"""What somebody has to make first, where Redis is theirs: base/kustomization.yaml, overlays/production."""


def referred(spec: Obj) -> set[tuple[str, str]]:
    found = {("ServiceAccount", name) for name in [spec.get("serviceAccountName")] if name}
    for volume in spec.get("volumes", ()):
        for source in (volume, *volume.get("projected", {}).get("sources", ())):
            found |= {("ConfigMap", source["configMap"]["name"])} if "configMap" in source else set()
            # The name of a Secret is at another place in a volume than in a projection.
            found |= {("Secret", next(iter(source["secret"].values())))} if "secret" in source else set()
    for container in spec["containers"]:
        found |= {("ConfigMap", source["configMapRef"]["name"]) for source in container.get("envFrom", ())}
        found |= {("Secret", one["valueFrom"]["secretKeyRef"]["name"]) for one in container.get("env", ())}
    return found


def test_every_selector_selects_the_pods_that_it_is_about(objects: tuple[Obj, ...]) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(objects).values()]
    for obj in objects:
        if obj["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            selector = obj["spec"]["selector"]["matchLabels"]
        elif obj["kind"] == "Service":
            selector = obj["spec"]["selector"]
        else:
            continue
        selected = [one for one in labels if selector.items() <= one.items()]
        assert len(selected) == 1, f"{obj['kind']} {obj['metadata']['name']}"
        assert selected[0]["app.kubernetes.io/component"] == obj["metadata"]["labels"]["app.kubernetes.io/component"]


def test_a_part_ends_before_its_pod_is_killed(objects: tuple[Obj, ...]) -> None:
    settings = one(objects, "ConfigMap", "jobcast")["data"]
    for name in ("jobcast-controller", "jobcast-worker"):
        grace = pods(objects)[name]["spec"]["terminationGracePeriodSeconds"]
        assert grace > float(settings.get("GRACE_SECONDS", 25))


def test_cluster_wide_watches_all_namespaces_by_cluster_roles_alone(tmp_path: Path) -> None:
    objects = rendered(kustomization(tmp_path, ["cluster-wide", "finalizer"]))
    assert one(objects, "ConfigMap", "jobcast")["data"]["NAMESPACES"] == "*"
    assert not [obj for obj in objects if obj["kind"] in ("Role", "RoleBinding")]
    for name in ("jobcast-controller", "jobcast-worker"):
        assert ["patch"] in [rule["verbs"] for rule in one(objects, "ClusterRole", name)["rules"]]
        binding = one(objects, "ClusterRoleBinding", name)
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "some-namespace"}]


@pytest.mark.parametrize("account", ["controller", "worker", "subscriber", "operator"])
def test_the_password_of_each_account_is_the_one_whose_hash_redis_has(tmp_path: Path, account: str) -> None:
    objects = rendered(kustomization(tmp_path, ["redis"]))
    text = (K8S / "components" / "redis" / "kustomization.yaml").read_text()
    url = urlsplit(
        next(line for line in text.splitlines() if f"redis://{account}:" in line).partition("=")[2].rstrip('"]')
    )
    assert url.username == account
    assert url.hostname == one(objects, "Service", "jobcast-redis")["metadata"]["name"]
    assert "for-trying-out" in (url.password or "")
    (rules,) = [rules for rules in acl() if rules[1] == account]
    assert f"#{hashlib.sha256((url.password or '').encode()).hexdigest()}" in rules


def acl() -> list[list[str]]:
    return [line.split() for line in (K8S / "components" / "redis" / "users.acl").read_text().splitlines()]


def test_redis_knows_no_other() -> None:
    names = {rules[1]: rules for rules in acl()}
    assert names.keys() == {"default", "controller", "worker", "subscriber", "operator", "probe"}
    assert names["default"][2] == "off"
    assert names["probe"][2:] == ["on", "nopass", "resetchannels", "-@all", "+ping"]


def test_production_runs_the_version_that_is_here() -> None:
    for pod in pods(rendered(K8S / "overlays" / "production")).values():
        assert [container["image"] for container in pod["spec"]["containers"]] == [f"jobcast:{__version__}"]
