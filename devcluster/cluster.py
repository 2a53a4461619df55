"""The whole cluster in one object: what is started in which order, and stopped in reverse."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from devcluster.errors import Obj
from devcluster.events import Recorder
from devcluster.faults import Faults
from devcluster.garbage import GarbageCollector
from devcluster.jobs import JobController
from devcluster.kubelet import Kubelet, Settings
from devcluster.logfile import LogFile
from devcluster.logs import NODE, Logs
from devcluster.podgc import PodCollector
from devcluster.registry import Registry
from devcluster.scheme import JOBS, NAMESPACES, NODES, PODS
from devcluster.server import Server
from devcluster.store import Store, clone, key_of

FIRST_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
MAX_BODY = 3 * 1024 * 1024
"""Bytes; etcd's own limit lies at half of it."""


class DevCluster:
    """`async with DevCluster() as cluster:` is a Kubernetes API on a loopback port."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        data: Path | None = None,
        run_jobs: bool = True,
        bookmark_seconds: float = 60.0,
        backoff_seconds: float = 0.5,
        notice_seconds: float = 0.0,
        end_seconds: float = 0.0,
        log_rotate_bytes: int | None = None,
        log_rotate_seconds: float = 10.0,
    ) -> None:
        """
        `data`: folder for logs and working directories; a temporary one when None. Emptied at the end either way.
        `run_jobs`: False leaves all Jobs alone, as `spec.managedBy` does for one; their status is then yours to write.
        `bookmark_seconds`: between bookmarks; 60 on a real server.
        `backoff_seconds`: what a real cluster's first back-off of 10 s shrinks to, for retries and restarts alike.
        `notice_seconds`: how late the kubelet notices; 1 on a real node, where a short container is never seen running.
        `end_seconds`: from its containers' end to a Pod's own; 1 on a real node.
        `log_rotate_bytes`: a log that has grown beyond loses what it had; 10 MiB on a real node, None: never.
        `log_rotate_seconds`: between the looks at how long a log has become.
        """
        self._host = host
        self._port = port
        self._given_data = data
        self._run_jobs = run_jobs
        self._bookmark_seconds = bookmark_seconds
        self._backoff_seconds = backoff_seconds
        self._notice_seconds = notice_seconds
        self._end_seconds = end_seconds
        self._log_rotate_bytes = log_rotate_bytes
        self._log_rotate_seconds = log_rotate_seconds
        self._written = 0
        self.store = Store()
        self.registry = Registry(self.store)
        self.logs = Logs(self.store)
        self.faults = Faults()
        self.url = ""

    async def __aenter__(self) -> Self:
        made = tempfile.mkdtemp(prefix="devcluster-", dir=self._given_data)
        self.data = Path(made)
        recorder = Recorder(self.registry)
        self._kubelet = Kubelet(
            self.registry,
            self.logs,
            recorder,
            Settings(
                self.data,
                self._backoff_seconds,
                self._notice_seconds,
                self._end_seconds,
                self._log_rotate_bytes,
                self._log_rotate_seconds,
            ),
        )
        self._garbage = GarbageCollector(self.registry)
        self._pod_garbage = PodCollector(self.registry)
        self._jobs = JobController(self.registry, recorder, self._backoff_seconds) if self._run_jobs else None
        for name in FIRST_NAMESPACES:
            self.registry.create(NAMESPACES, "", {"metadata": {"name": name}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        node = {
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
            "status": {"conditions": [ready]},
        }
        self.registry.create(NODES, "", node)
        self._server = Server(self.registry, self.logs, self.faults, self._bookmark_seconds)
        await self.come_up()
        return self

    async def come_up(self) -> None:
        """Listen; after `go_down`, at the same address as before."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._server.handle)
        # Watches end when their client leaves, and at once when we stop.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=512)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://{self._host}:{self._port}"

    async def go_down(self) -> None:
        """The API server is down: connections are dropped, new ones refused. Jobs continue, and no data is lost."""
        await self._runner.cleanup()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_down()  # first the server, so that no request starts what the next lines stop
        if self._jobs:
            self._jobs.stop()
        self._garbage.stop()
        self._pod_garbage.stop()
        await self._kubelet.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def create(self, obj: Obj, namespace: str = "default") -> Obj:
        """Create a Job or a Pod without HTTP. No kubelet runs a Pod with a foreign `spec.nodeName`: it is yours."""
        resource = {"Job": JOBS, "Pod": PODS}[obj["kind"]]
        return self.registry.create(resource, namespace, clone(obj))

    def patch_status(self, obj: Obj, change: Obj) -> Obj:
        """Merge into the status of a Job or a Pod (as got from `create`), by the same rules as over HTTP."""
        resource = PODS if "containers" in obj["spec"] else JOBS
        kind = "application/merge-patch+json"
        return self.registry.patch(resource, *key_of(obj), kind, {"status": change}, "status")

    def write_log(self, pod: Obj, container: str, data: bytes) -> None:
        """The log of a container that no kubelet runs; a second call makes the first one's the `previous` log."""
        self._written += 1
        log = LogFile(self.data / "written" / f"{self._written}.log")
        self.logs.add(pod["metadata"]["uid"], container, log)
        log.append(data)
        log.close()

    def compact(self) -> None:
        """Forget the history of all watches: an old resourceVersion now gets its 410."""
        self.store.compact()

    def write_kubeconfig(self, path: Path | str) -> None:
        """For kubectl and every client library; JSON is YAML too."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "devcluster",
            "clusters": [{"name": "devcluster", "cluster": {"server": self.url}}],
            "users": [{"name": "devcluster", "user": {"token": "devcluster"}}],
            "contexts": [
                {
                    "name": "devcluster",
                    "context": {"cluster": "devcluster", "user": "devcluster", "namespace": "default"},
                }
            ],
        }
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.write_text(json.dumps(config, indent=1) + "\n")
        partial.replace(target)  # a process that waits for the file sees it complete


async def serve(cluster: DevCluster, kubeconfig: Path, stop: asyncio.Event) -> None:
    """Run until `stop`, and say when requests are welcome."""
    async with cluster:
        cluster.write_kubeconfig(kubeconfig)
        print(f"devcluster ready url={cluster.url} kubeconfig={kubeconfig}", flush=True)  # noqa: T201 - callers wait for this line
        await stop.wait()
