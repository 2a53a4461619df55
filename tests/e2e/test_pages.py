"""What README.md applies to a cluster, and docs/operations/uninstall.md takes away again: as they say it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import Api
from tests.docs.pages import HELD, LAST, ROOT, commands, on_a_cluster

PARTS = "deployments,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,configmaps"
OF_EVERY_NAMESPACE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


class Reader:
    """At a shell in the checkout, his context's namespace being that of the test."""

    def __init__(self, namespace: str, folder: Path) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kubeconfig = self.types("kubectl config view --raw --minify", {**os.environ, "PATH": path})
        (folder / "kubeconfig").write_text(kubeconfig)
        self._environment = {**os.environ, "PATH": path, "KUBECONFIG": str(folder / "kubeconfig")}
        self.types(f"kubectl config set-context --current --namespace={namespace}")

    def types(self, line: str, environment: dict[str, str] | None = None, given: str = "") -> str:
        command = ["bash", "-c", f"set -euo pipefail\n{line}"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment or self._environment, input=given, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def sees(self) -> set[str]:
        return set(self.types(f"kubectl get {PARTS} --output name").split())


@pytest.fixture
def reader(cluster: Api, tmp_path: Path) -> Iterator[Reader]:
    made = Reader(cluster.namespace, tmp_path)
    yield made
    with contextlib.suppress(AssertionError):  # else a test that failed leaves a namespace that cannot go
        made.types("""kubectl patch job my-job --type=merge -p '{"metadata":{"finalizers":null}}'""")


def test_what_the_readme_applies_the_page_takes_away_again(reader: Reader) -> None:
    for line in on_a_cluster(ROOT / "README.md"):
        reader.types(line)
    assert {"deployment.apps/jobcast-controller", "deployment.apps/jobcast-worker"} <= reader.sees()
    reader.types("kubectl create -f -", given=json.dumps(HELD))
    reader.types("kubectl delete job my-job --wait=false")

    apart = commands(LAST.read_text())
    for line in (line for line in apart if line.startswith(("kubectl ", "jobcast "))):
        reader.types(line)
    assert reader.sees() <= OF_EVERY_NAMESPACE
    reader.types("kubectl wait --for=delete job/my-job --timeout=60s")
