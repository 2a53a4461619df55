"""Our own Pods: which there are, under which accounts they run, and why one does not start."""

from collections.abc import Sequence

import msgspec

from jobcast.doctor.finding import Finding, broken, ok, warning
from jobcast.jobs.decode import WireMeta
from jobcast.kube import Api, Resource

SELECTOR = "app.kubernetes.io/name=jobcast"
COMPONENT = "app.kubernetes.io/component"
CRASHES = 3
"""Restarts that count as a crash loop."""
_STARTING = ("", "ContainerCreating", "PodInitializing")
_TODO = {
    "CreateContainerConfigError": "create what is missing: kubectl create secret generic jobcast-redis"
    " --from-literal=REDIS_URL=redis://…",
    "ErrImagePull": "check the image's name and imagePullSecrets",
    "ImagePullBackOff": "check the image's name and imagePullSecrets",
    "ErrImageNeverPull": "load the image onto the node, or change imagePullPolicy",
    "InvalidImageName": "correct the image's name",
    "Unschedulable": "make room on a node: kubectl describe pod says what is missing",
}


class _Struct(msgspec.Struct, frozen=True, rename="camel"):
    """Fields that are not named here are skipped."""


class _Spec(_Struct, frozen=True):
    service_account_name: str = ""


class _Waiting(_Struct, frozen=True):
    reason: str = ""
    message: str = ""


class _State(_Struct, frozen=True):
    waiting: _Waiting | None = None


class _Container(_Struct, frozen=True):
    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: _State = _State()


class _Condition(_Struct, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class _Status(_Struct, frozen=True):
    phase: str = ""
    conditions: list[_Condition] = []
    init_container_statuses: list[_Container] = []
    container_statuses: list[_Container] = []


class Pod(_Struct, frozen=True):
    metadata: WireMeta
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def component(self) -> str:
        return (self.metadata.labels or {}).get(COMPONENT, "")

    @property
    def is_ready(self) -> bool:
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions)

    @property
    def start_error(self) -> tuple[str, str] | None:
        """Why it does not start or crashes: reason and message. None where Kubernetes names none."""
        for container in (*self.status.init_container_statuses, *self.status.container_statuses):
            waiting = container.state.waiting
            if waiting is not None and waiting.reason not in _STARTING:
                return waiting.reason, waiting.message
            if not container.ready and container.restart_count >= CRASHES:
                return "CrashLoopBackOff", f"container {container.name} was restarted {container.restart_count} times"
        for condition in self.status.conditions:
            if condition.type == "PodScheduled" and condition.status == "False":
                return condition.reason, condition.message
        return None


_OURS: Resource[Pod] = Resource("", "v1", "pods", Pod, lambda _reading, pod: pod)


async def ours(api: Api, namespace: str) -> list[Pod]:
    """Jobcast's Pods in that namespace, without those in deletion. Raises KubeError."""
    pods = [pod async for page in api.pages(_OURS, namespace, SELECTOR) for pod in page.items]
    return [pod for pod in pods if pod.metadata.deletion_timestamp is None]


def accounts(pods: Sequence[Pod]) -> dict[str, str]:
    """The ServiceAccounts of the controllers and of the workers."""
    kinds = ("controller", "worker")
    return {pod.component: pod.spec.service_account_name or "default" for pod in pods if pod.component in kinds}


def findings(pods: Sequence[Pod], namespace: str) -> list[Finding]:
    if not pods:
        todo = "kubectl apply -k k8s/, or name the namespace of the installation with --namespace"
        return [warning("pods", f"there is no Pod of Jobcast in {namespace}", todo)]
    found = []
    for component in sorted({pod.component for pod in pods}):
        alike = [pod for pod in pods if pod.component == component]
        ready = sum(pod.is_ready for pod in alike)
        if ready == len(alike):
            found.append(ok("pods", f"{component}: {ready} of {len(alike)} ready"))
        found += [_unready(pod) for pod in alike if not pod.is_ready]
    return found


def _unready(pod: Pod) -> Finding:
    name = pod.metadata.name
    logs = f"kubectl logs -n {pod.metadata.namespace} {name}"
    if pod.start_error is None:
        return broken(
            "pods", f"{name} is not ready ({pod.status.phase})", f"its /readyz and its log have the reason: {logs}"
        )
    reason, message = pod.start_error
    return broken("pods", f"{name} does not start: {reason}: {message}", _TODO.get(reason, f"{logs} --previous"))
