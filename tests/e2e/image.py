"""The image of controller and worker, as the nodes have it. Who builds it, and how it gets there, the tests do not know."""

import os

import pytest

from tests.api import Api, Obj, is_over

IMAGE = os.environ.get("JOBCAST_IMAGE", "jobcast:dev")


def restricted(name: str, command: list[str]) -> Obj:
    """A Pod of the image that runs this and nothing else, as restricted as those of k8s/base."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"job-name": name}},  # by which Api.pod_of finds it
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    "command": command,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


async def said_by(cluster: Api, name: str, *command: str) -> str:
    """Fails with how to build the image where the node lacks it, and with what was said where the command fails."""
    await cluster.create(restricted(name, list(command)))
    pod = await cluster.pod_of(name, lambda pod: is_missing(pod) or is_over(pod))
    if is_missing(pod):
        pytest.fail(
            f"no node has the image {IMAGE}: build it (docker build -t {IMAGE} .) and give it to the nodes, for example with"
            f" `kind load docker-image {IMAGE}`; JOBCAST_IMAGE names another"
        )
    _, said, _ = await cluster.raw("GET", f"{cluster.pods}/{name}/log")
    assert pod["status"]["phase"] == "Succeeded", said.decode()
    return said.decode()


def is_missing(pod: Obj) -> bool:
    states = [status["state"] for status in pod["status"].get("containerStatuses") or []]
    return any(state.get("waiting", {}).get("reason") == "ErrImageNeverPull" for state in states)
