"""Pods without a kubelet: the harness writes their status."""

from datetime import datetime, timedelta

from chaos.access import MERGE, Cluster, Obj
from chaos.kubelet import Kubelet

NODE = "chaos"
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
SCHEDULER = "chaos.jobcast.dev/nobody"
"""Where there is a scheduler it leaves such Pods alone, and no kubelet ever sees them."""


class Pods:
    """The Pods of one Job, one after the other."""

    def __init__(self, cluster: Cluster, job: str, kubelet: Kubelet, *, on_node: bool) -> None:
        """`on_node`: they name a node that there is not. devcluster's own kubelet takes every other Pod; a real cluster
        collects Pods whose node is not there, and leaves those alone that wait for their scheduler."""
        self._cluster = cluster
        self._job = job
        self._kubelet = kubelet
        self._on_node = on_node
        self._count = 0
        self._started = ""
        self._skew = timedelta()

    @property
    def name(self) -> str:
        return f"{self._job}-{self._count}"

    @property
    def path(self) -> str:
        return f"{self._cluster.pods}/{self.name}"

    @property
    def log(self) -> bytes:
        return self._kubelet.log(self.name)

    async def create(self, uid: str) -> None:
        self._count += 1
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": self._job, "uid": uid, "controller": True}
        labels = {"batch.kubernetes.io/job-name": self._job, "batch.kubernetes.io/controller-uid": uid}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": labels, "ownerReferences": [owner]},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "evaluation", "image": "busybox"}],
                **({"nodeName": NODE} if self._on_node else {"schedulerName": SCHEDULER}),
            },
        }
        await self._cluster.ask("POST", self._cluster.pods, pod, passing=(409,))

    async def wait(self, reason: str) -> None:
        await self._write("Pending", {"waiting": {"reason": reason}}, ready=False)

    async def run(self, at: str) -> str:
        """The resourceVersion from which on it ran."""
        self._skew = timedelta(seconds=round(self._kubelet.skew))
        self._started = self._by_node(at)
        self._kubelet.start(self.name)
        return await self._write("Running", {"running": {"startedAt": self._started}}, ready=True)

    async def end(self, code: int, at: str) -> None:
        reason = "Error" if code else "Completed"
        finished = self._by_node(at)
        ended = {"exitCode": code, "reason": reason, "startedAt": self._started, "finishedAt": finished}
        self._kubelet.end(self.name)
        await self._write("Failed" if code else "Succeeded", {"terminated": ended}, ready=False)

    def _by_node(self, at: str) -> str:
        """That moment by the clock of the Pod's node."""
        return (datetime.strptime(at, MOMENT) + self._skew).strftime(MOMENT)

    async def delete(self) -> None:
        await self._cluster.ask("DELETE", self.path, {"gracePeriodSeconds": 0}, passing=(404,))
        self._kubelet.remove(self.name)

    async def _write(self, phase: str, state: Obj, *, ready: bool) -> str:
        container = {"name": "evaluation", "image": "busybox", "imageID": "", "restartCount": 0, "ready": ready}
        status = {"phase": phase, "containerStatuses": [{**container, "state": state}]}
        _, pod = await self._cluster.ask("PATCH", f"{self.path}/status", {"status": status}, kind=MERGE)
        return str(pod["metadata"]["resourceVersion"])
