"""Watch lines decoded and applied per second: ours into the store and the queue, against kubernetes-asyncio's Watch."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.server import serving
from controller.namespace import JobStore
from controller.store import Store
from controller.workqueue import Workqueue
from jobcast.kube import JOBS, Access, Api

OURS, THEIRS = 40_000, 2_000
"""Lines each; theirs are fewer because each takes a hundred times as long. Both are read to the end."""


class _NothingIsEnded:
    """In place of a Reconciler: decoding and applying are what is measured here."""

    def is_ended(self, uid: str) -> bool:
        return False

    def forget(self, uid: str) -> None:
        pass


async def ours(url: str) -> float:
    """Lines a second."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KUBECONFIG"] = kubeconfig(Path(folder), url)
        access = await Access.find()
    queue, store, nothing = Workqueue(), Store(), _NothingIsEnded()
    sink = JobStore(None, store, queue, nothing)  # type: ignore[arg-type]
    count, started = 0, time.perf_counter()
    async with Api(access) as api:
        async for batch in api.watch(JOBS, None, "app=evaluation", "1"):
            for change in batch:
                sink.change(change)
            count += len(batch)
    assert count == OURS, count
    return count / (time.perf_counter() - started)


async def theirs(url: str) -> float:
    """Lines a second, with nothing done to the models."""
    from kubernetes_asyncio import client, watch

    configuration = client.Configuration()
    configuration.host = url
    count, started = 0, 0.0
    async with client.ApiClient(configuration) as api:
        stream = watch.Watch().stream(client.BatchV1Api(api).list_job_for_all_namespaces, timeout_seconds=60)
        async with stream:
            async for _event in stream:
                started = started or time.perf_counter()
                count += 1
                if count == THEIRS:
                    break
    return count / (time.perf_counter() - started)


def kubeconfig(folder: Path, url: str) -> str:
    """The path of one that leads there."""
    config: dict[str, Any] = {
        "current-context": "bench",
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "clusters": [{"name": "bench", "cluster": {"server": url}}],
        "users": [{"name": "bench", "user": {}}],
    }
    path = folder / "kubeconfig"
    path.write_bytes(msgspec.json.encode(config))  # JSON is YAML
    return str(path)


def rows() -> list[tuple[str, str, str]]:
    with serving(THEIRS) as url:
        slow = asyncio.run(theirs(url))
    with serving(OURS) as url:
        fast = asyncio.run(ours(url))
    return [
        (
            "watch lines decoded and applied",
            f"{fast:,.0f}/s",
            f"{fast / slow:.0f} × kubernetes-asyncio's Watch ({slow:,.0f}/s)",
        )
    ]
