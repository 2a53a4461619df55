"""A namespace of a real cluster, driven with plain HTTP: nothing of what is tested is used to set the stage."""

import os
import uuid
from typing import Any

import aiohttp

from jobcast.kube import Access

IMAGE = os.environ.get("E2E_IMAGE", "busybox")
"""Needs sh, echo, sleep and date. Never pulled where it is there."""
DELETE_OPTIONS = {"propagationPolicy": "Background"}


def manifest(name: str, command: str, **spec: Any) -> dict[str, Any]:
    """A labelled Job of one container; `spec` is the Job's."""
    container = {
        "name": "evaluation",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", command],
    }
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"app": "evaluation", "eval-id": name}},
        "spec": {"backoffLimit": 0, **spec, "template": {"spec": pod}},
    }


class Cluster:
    """Use as an async context manager: the namespace is there within, and its removal is asked for at the end."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.namespace = f"jobcast-e2e-{uuid.uuid4().hex[:8]}"

    async def __aenter__(self) -> "Cluster":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._access.ssl()), headers=await self._access.headers()
        )
        await self._request("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        # Pods are refused until it is there.
        await self._wait_for(f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._request("DELETE", f"/api/v1/namespaces/{self.namespace}")
        await self._session.close()

    async def create(self, job: dict[str, Any]) -> str:
        """The new Job's uid."""
        created = await self._request("POST", self._jobs, job)
        uid: str = created["metadata"]["uid"]
        return uid

    async def get(self, name: str) -> dict[str, Any]:
        return await self._request("GET", f"{self._jobs}/{name}")

    async def patch(self, name: str, change: dict[str, Any]) -> None:
        await self._request("PATCH", f"{self._jobs}/{name}", change, "application/merge-patch+json")

    async def delete(self, name: str, policy: str = "Background") -> None:
        await self._request("DELETE", f"{self._jobs}/{name}", {"propagationPolicy": policy})

    async def is_finished(self, name: str) -> bool:
        conditions = (await self.get(name))["status"].get("conditions", [])
        return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)

    async def is_running(self, name: str) -> bool:
        return bool((await self.get(name))["status"].get("ready"))

    @property
    def _jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    async def _wait_for(self, path: str) -> None:
        while True:
            async with self._session.get(self._access.host + path) as response:
                if response.status == 200:
                    return

    async def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        async with self._session.request(
            method, self._access.host + path, json=body, headers={"Content-Type": kind}
        ) as response:
            assert response.status < 300, f"{method} {path}: {response.status} {await response.text()}"
            answer: dict[str, Any] = await response.json()
            return answer
