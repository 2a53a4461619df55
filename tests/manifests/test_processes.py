"""The table of processes (jobcast/service/processes.py) and what else speaks of them: manifests, settings, doctor."""

import pytest
import yaml
from pydantic_settings import BaseSettings

from controller.settings import ControllerSettings
from jobcast.service.processes import ACCOUNTS, KUBERNETES, PROCESSES, REDIS, Process
from tests.rendered import K8S, Obj, pods, rendered
from worker.settings import WorkerSettings

SETTINGS: dict[str, type[BaseSettings]] = {"controller": ControllerSettings, "worker": WorkerSettings}
BASE = rendered(K8S)
each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def of_kind(kind: str) -> dict[str, Obj]:
    return {obj["metadata"]["name"]: obj for obj in BASE if obj["kind"] == kind}


def test_every_deployment_of_ours_is_a_row_and_every_row_a_deployment() -> None:
    assert {f"jobcast-{kind}" for kind in PROCESSES} == set(of_kind("Deployment"))
    assert set(SETTINGS) == set(PROCESSES)


@each
def test_it_serves_on_the_port_of_its_setting(process: Process) -> None:
    (container,) = pods(BASE)[f"jobcast-{process.kind}"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": process.port}
    assert SETTINGS[process.kind].model_fields[process.port_setting.lower()].default == process.port


@each
def test_its_role_grants_just_what_it_asks(process: Process) -> None:
    role, binding = of_kind("Role")[process.service_account], of_kind("RoleBinding")[process.service_account]
    granted = {
        f"{verb} {resource}" for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
    assert granted == {str(permission) for permission in process.permissions}
    assert [subject["name"] for subject in binding["subjects"]] == [process.service_account]
    spec = pods(BASE)[f"jobcast-{process.kind}"]["spec"]
    assert spec["serviceAccountName"] == process.service_account
    assert spec.get("automountServiceAccountToken", True) is (KUBERNETES in process.talks_to)


@pytest.mark.parametrize(("policy", "system"), [("jobcast", KUBERNETES), ("jobcast-to-redis", REDIS)])
def test_network_policies_are_for_those_who_talk_to_the_system(policy: str, system: str) -> None:
    (named,) = of_kind("NetworkPolicy")[policy]["spec"]["podSelector"]["matchExpressions"]
    assert set(named["values"]) == {kind for kind, process in PROCESSES.items() if system in process.talks_to}


def test_every_process_has_an_account_in_redis_of_its_own() -> None:
    assert set(PROCESSES) < set(ACCOUNTS)
    component = yaml.safe_load((K8S / "components" / "redis" / "kustomization.yaml").read_text())
    secrets = {one["name"] for one in component["secretGenerator"]}
    assert {f"jobcast-redis-{account}" for account in ACCOUNTS} < secrets
