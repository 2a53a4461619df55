"""A namespace goes with the RoleBinding that let the controller look at its Jobs."""

from pathlib import Path

import pytest

from tests.api import Api, evaluation
from tests.conftest import eventually
from tests.e2e.accounts import RBAC, account, granted
from tests.parts import Parts, Told


@pytest.mark.must_survive(9)
async def test_a_job_that_is_deleted_with_the_permission_to_look_at_it_is_cancelled(
    cluster: Api, parts: Parts, published: Told, tmp_path: Path
) -> None:
    kubeconfig = await account(cluster, "controller", granted("controller"), tmp_path)
    part = parts.start_controller(KUBECONFIG=str(kubeconfig))
    await eventually(lambda: part.answers("/readyz"), 30)
    await cluster.create(evaluation("one", "sleep 600", backoffLimit=6))
    await eventually(lambda: [one["status"] for one in published.heard] == ["running"], 60)
    binding = f"/{RBAC}/namespaces/{cluster.namespace}/rolebindings/jobcast-controller"
    status, _ = await cluster.call("DELETE", binding)
    assert status == 200
    await cluster.delete(f"{cluster.jobs}/one", "Background")
    end = await published.end_of("one")
    assert (end["status"], end["reason"], end["last_status"]) == ("cancelled", "JobDeleted", "running")
