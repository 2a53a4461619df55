"""What a reconciler sees of the cluster: the view that its driver keeps, and the API server itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from jobcast.jobs.model import Job, Pod, Suspension, unix
from jobcast.ledger.ledger import Outgoing, Row, Step


class View(Protocol):
    """What the driver knows of the cluster; read-only but for `drop`."""

    def job(self, uid: str) -> Job | None:
        """The Job as it was seen last; None if it was never seen, or was dropped."""

    def is_gone(self, uid: str) -> bool:
        """The API server no longer has it."""

    def was_deleted(self, uid: str) -> bool:
        """The watch has said that it is gone; also of a Job that only lost its label."""

    def pods(self, uid: str) -> Sequence[Pod]:
        """Its Pods as they were seen last, including those that are gone."""

    def pods_version(self, namespace: str) -> int:
        """The resourceVersion up to which all Pods of the namespace have been seen."""

    def has_seen_pods(self, namespace: str) -> bool:
        """Whether any Job's Pod was seen in it: then Jobs there usually have Pods."""

    def drop(self, uid: str) -> None:
        """This Job is not needed any more."""


class Cluster(Protocol):
    """What a reconciler asks of the API server itself: jobcast.kube.Api, or a fake."""

    async def job(self, namespace: str, name: str) -> Job | None: ...

    async def pods_of(self, namespace: str, selector: str) -> list[Pod]: ...

    async def hold(self, namespace: str, name: str, uid: str) -> None:
        """Add our finalizer to the Job, if it exists and is not being deleted."""

    async def release(self, namespace: str, name: str, uid: str) -> None:
        """Remove our finalizer from the Job, if it has it."""

    def now(self) -> str: ...


def rebuild_job(row: Row) -> Job:
    """What the ledger has recorded of a Job that is gone."""
    return Job(
        uid=row.uid,
        namespace=row.namespace,
        name=row.name,
        version=row.version,
        eval_id=row.eval_id,
        has_eval_id=True,
        created=datetime.fromtimestamp(row.created, UTC).isoformat(),
    )


def build_step(
    job: Job, status: str, outgoing: Sequence[Outgoing], fields: dict[str, bytes], suspension: Suspension | None = None
) -> Step:
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
        fields=fields,
        suspension=str(suspension or ""),
        keeps_eval_id=True,
    )
