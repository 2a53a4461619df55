"""What the watches have brought: the Jobs whose end is not published yet, and their Pods.

Of a Job whose end is published only the uid is kept, so that memory grows with the open Jobs alone. Objects in the store are
never changed, only replaced.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from sys import intern

from msgspec.structs import replace

from jobcast.jobs.model import Job, Pod

MAX_ORPHANS = 1024
"""How many unseen Jobs' Pods are kept: one of the two watches is milliseconds ahead of the other. Pods of Jobs that the
selector leaves out are kept here, too; the oldest are dropped first."""


class Store:
    """Jobs by uid and Pods by their Job's uid; the View of jobcast.reconcile.reconciler."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._pods: dict[str, dict[str, Pod]] = {}
        self._gone: dict[str, bool] = {}
        """By uid of an unpublished Job that is gone: whether the watch said DELETED. Otherwise a list did not have it."""
        self._ended: dict[str, str] = {}
        """Namespace by uid, of Jobs whose end is published and that are still in the cluster."""
        self._orphans: OrderedDict[str, dict[str, Pod]] = OrderedDict()
        """Pods by uid, by the uid of an unseen Job, oldest first."""
        self._pods_version: dict[str | None, int] = {}
        """By watched namespace (None is all): up to this version, the store has every Pod of an open Job."""
        self._with_pods: set[str] = set()
        """Namespaces in which a Job had a Pod."""

    def job(self, uid: str) -> Job | None:
        return self._jobs.get(uid)

    def is_gone(self, uid: str) -> bool:
        return uid in self._gone

    def was_deleted(self, uid: str) -> bool:
        return self._gone.get(uid, False)

    def pods(self, uid: str) -> Sequence[Pod]:
        pods = self._pods.get(uid) or self._orphans.get(uid)
        return tuple(pods.values()) if pods else ()

    def pods_version(self, namespace: str) -> int:
        return self._pods_version.get(namespace) or self._pods_version.get(None, 0)

    def has_seen_pods(self, namespace: str) -> bool:
        return namespace in self._with_pods

    def pods_listed(self, namespace: str | None, version: str) -> None:
        """All Pods as of that version have been put."""
        self._pods_version[namespace] = int(version or 0)

    def pods_seen(self, namespace: str | None, version: str) -> None:
        """All Pods up to that version have been put, if those of the list before were: a watch brings them in order."""
        if namespace in self._pods_version:
            self._pods_version[namespace] = int(version or 0)

    def drop(self, uid: str) -> None:
        """The Job's end is published: keep only its uid, as long as the API server has the Job."""
        job = self._jobs.pop(uid, None)
        self._pods.pop(uid, None)
        if uid in self._gone:
            del self._gone[uid]
        elif job is not None:
            self._ended[uid] = intern(job.namespace)

    def put_job(self, job: Job) -> None:
        uid = job.uid
        if (pods := self._orphans.pop(uid, None)) is not None:
            self._pods.setdefault(uid, {}).update(pods)
        self._jobs[uid] = job
        self._gone.pop(uid, None)

    def put_ended(self, job: Job) -> None:
        """A Job whose end is in the ledger already."""
        self._orphans.pop(job.uid, None)
        self._ended[job.uid] = intern(job.namespace)

    def remove_job(self, uid: str, *, was_deleted: bool = False) -> bool:
        """The API server no longer has it. True if its end is still to be published."""
        self._ended.pop(uid, None)
        if uid in self._jobs:
            self._gone[uid] = was_deleted
            return True
        return False

    def put_pod(self, pod: Pod) -> str | None:
        """The uid of the Job for which this Pod is news; None where it is not."""
        owner = pod.owner
        if owner:
            self._with_pods.add(intern(pod.namespace))
        if not owner or owner in self._ended:
            return None
        if owner not in self._jobs:
            self._orphans.setdefault(owner, {})[pod.uid] = pod
            return None
        pods = self._pods.setdefault(owner, {})
        known = pods.get(pod.uid)
        if known is not None:
            pod = _with_deletion_time(known, pod)
        pods[pod.uid] = pod
        # Most updates of a Pod change nothing that is read here.
        return owner if known is None or replace(known, version=pod.version) != pod else None

    def remove_pod(self, pod: Pod) -> str | None:
        """As put_pod, for a Pod that is gone. Its last state stays with its Job."""
        return self.put_pod(replace(pod, gone=True))

    def uids_in(self, namespace: str | None) -> set[str]:
        """All Jobs of a namespace (None: of all) that the API server had when last seen, ended ones included."""
        open_ones = {uid for uid, job in self._jobs.items() if namespace is None or job.namespace == namespace}
        return open_ones | {uid for uid, name in self._ended.items() if namespace is None or name == namespace}

    def pods_in(self, namespace: str | None) -> list[Pod]:
        """The Pods of a namespace that the API server had when last seen."""
        pods = (pod for by_uid in self._pods.values() for pod in by_uid.values())
        return [pod for pod in pods if not pod.gone and (namespace is None or pod.namespace == namespace)]

    def jobs(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def forget_ended(self) -> None:
        """Redis may have lost their ends: the next list brings these Jobs again. Their Pods were dropped."""
        self._ended.clear()
        self._pods_version.clear()

    @property
    def ended_count(self) -> int:
        return len(self._ended)

    def __len__(self) -> int:
        return len(self._jobs)

    def trim_orphans(self) -> None:
        """Call it only while no list is under way: before the Jobs are listed, all Pods are orphans."""
        while len(self._orphans) > MAX_ORPHANS:
            self._orphans.popitem(last=False)
            self._pods_version.clear()  # their Job may still appear


def _with_deletion_time(known: Pod, pod: Pod) -> Pod:
    """The Pod, with what was seen of its deletion: the first request counts, and it did not kill a container that was seen to
    have ended before it."""
    if known.asked is not None:
        return replace(pod, asked=known.asked, ended_first=known.ended_first)
    if pod.asked is None:
        return pod
    return replace(
        pod, ended_first=tuple(one.name for one in (*known.containers, *known.init) if one.ended is not None)
    )
