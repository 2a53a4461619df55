"""What reconcile sees of the cluster: a view that its driver keeps, and the API server itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from jobcast.jobs.model import Job, Pod, unix
from jobcast.ledger.ledger import Outgoing, Row, Step


class View(Protocol):
    """What the driver knows of the cluster; never written through."""

    def job(self, uid: str) -> Job | None:
        """The Job as it was seen last; None for one that was never seen, or has been dropped."""

    def is_gone(self, uid: str) -> bool:
        """The API server has it no more."""

    def pods(self, uid: str) -> Sequence[Pod]:
        """Its Pods as they were seen last, also those that are gone since."""

    def pods_version(self, namespace: str) -> int:
        """Every Pod of the namespace as it was at this resourceVersion has been seen."""

    def has_seen_pods(self, namespace: str) -> bool:
        """Whether any Job's Pod was seen in it: then Jobs there have Pods, as a rule."""

    def drop(self, uid: str) -> None:
        """Nothing of this Job is needed any more."""


class Cluster(Protocol):
    """What reconcile asks of the API server itself: jobcast.kube.Api, or a fake."""

    async def job(self, namespace: str, name: str) -> Job | None: ...

    async def pods_of(self, namespace: str, selector: str) -> list[Pod]: ...

    async def hold(self, namespace: str, name: str, uid: str) -> None:
        """Put our finalizer on the Job, if it is still there and not being deleted."""

    async def release(self, namespace: str, name: str, uid: str) -> None:
        """Take our finalizer off the Job, if it has it."""

    def now(self) -> str: ...


def remembered(row: Row) -> Job:
    """What the ledger remembers of a Job that is gone."""
    return Job(
        uid=row.uid,
        namespace=row.namespace,
        name=row.name,
        version=row.version,
        eval_id=row.eval_id,
        has_eval_id=True,
        created=datetime.fromtimestamp(row.created, UTC).isoformat(),
        deleted=None,
        started=None,
        completed=None,
        labels=None,
        container=None,
        timeout=None,
        active=0,
        ready=0,
        ended_pods=0,
        end=None,
        suspended=None,
        was_suspended=False,
    )


def step_of(job: Job, status: str, outgoing: Sequence[Outgoing], life: dict[str, bytes]) -> Step:
    """What the ledger is asked to publish of this Job."""
    try:
        created = unix(job.created)
    except ValueError:
        created = 0.0
    return Step(
        uid=job.uid,
        version=job.version,
        created=created,
        eval_id=job.eval_id,
        namespace=job.namespace,
        name=job.name,
        status=status,
        outgoing=tuple(outgoing),
        life=life,
    )
