"""Six evaluations as Kubernetes Jobs. Each ends in another way."""

import json
import urllib.request
from dataclasses import dataclass, field
from typing import Any

NAMESPACE = "default"
API = "/apis/batch/v1/namespaces/" + NAMESPACE + "/jobs"


@dataclass(frozen=True)
class Evaluation:
    """What it runs, and the status that it ends with."""

    name: str
    command: str
    fate: str
    expected: str
    spec: dict[str, Any] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        container = {"name": "evaluation", "image": "busybox", "command": ["sh", "-c", self.command]}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": self.name,
                "labels": {"app": "evaluation", "eval-id": self.name, "pipeline": "demo"},
            },
            "spec": {
                "backoffLimit": 0,
                **self.spec,
                "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
            },
        }


EVALUATIONS = (
    Evaluation("succeeds", """echo thinking; sleep 2; echo '{"score": 0.5}'""", "exits 0", "completed"),
    Evaluation("fails", "echo 'no such dataset' >&2; exit 3", "exits 3", "failed"),
    Evaluation(
        "retries",
        """test "$(date +%s)" -ge "$NOT_BEFORE" || exit 1; echo '{"score": 0.9}'""",
        "fails once, then succeeds",
        "completed",
        {"backoffLimit": 3},
    ),
    Evaluation("hangs", "echo waiting; sleep 600", "runs into its deadline", "failed", {"activeDeadlineSeconds": 4}),
    Evaluation("deleted", "echo working; sleep 600", "is deleted half-way", "cancelled"),
    Evaluation(
        "odd-bytes",
        r"""printf '{"score": 1.0, "note": "\303\244"}\n\377\376 not UTF-8\n'""",
        "prints JSON and binary",
        "completed",
    ),
)


class Cluster:
    """The little of the Kubernetes API that the demo needs itself."""

    def __init__(self, url: str) -> None:
        self._url = url

    def create(self, evaluation: Evaluation, environment: dict[str, str]) -> None:
        manifest = evaluation.manifest()
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            container["env"] = [{"name": name, "value": value} for name, value in environment.items()]
        self._request("POST", API, json.dumps(manifest).encode())

    def delete(self, name: str) -> None:
        self._request("DELETE", f"{API}/{name}?propagationPolicy=Background")

    def _request(self, method: str, path: str, body: bytes | None = None) -> None:
        request = urllib.request.Request(  # noqa: S310 - devcluster, on loopback
            self._url + path, data=body, method=method, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            pass
