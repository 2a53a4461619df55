"""Events told the way the service tells them: through the ledger's own step."""

import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from jobcast.event import (
    Attempt,
    Cancelled,
    Completed,
    Event,
    Failed,
    JobRef,
    Log,
    Progress,
    Running,
    Status,
    Suspended,
    event_id,
)
from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger, Outgoing, Step, StepResult
from jobcast.redis.connection import connect
from jobcast.wire import encode

BIRTH = 1_795_168_800.0


def event(status: str, eval_id: str = "42", *, uid: str | None = None, at: float = BIRTH, **more: Any) -> Event:
    """An event of the Job `uid`, by default one Job an evaluation."""
    uid = uid or str(uuid.uuid5(uuid.NAMESPACE_OID, eval_id))
    time = datetime.fromtimestamp(at, UTC).isoformat()
    name = f"eval-{eval_id}"
    common: dict[str, Any] = {
        "id": event_id(uid, status, time if status in ("running", "suspended") else ""),
        "eval_id": eval_id,
        "timestamp": at,
        "time": time,
        "job": JobRef("evals", name, uid),
        "metadata": {"job_name": name},
    }
    ended = {
        "exit_code": 0 if status == "completed" else 1,
        "output": "hello\n",
        "output_truncated": False,
        "error": None,
        "duration_seconds": 1.5,
        "reason": "CompletionsReached" if status == "completed" else "BackoffLimitExceeded",
        "attempts": [],
        "log": Log(),
    }
    match Status(status):
        case Status.RUNNING:
            fields = {"started_at": time, "timeout": None, "executor_id": name, "container_id": name}
            return Running(**common | fields | more)
        case Status.SUSPENDED:
            return Suspended(**common | {"reason": "JobSuspended"} | more)
        case Status.CANCELLED:
            fields = {"reason": "JobDeleted", "cancelled_at": time, "job_name": name, "last_status": "running"}
            return Cancelled(**common | fields | more)
        case Status.COMPLETED:
            return Completed(**common | ended | more)
        case Status.FAILED:
            return Failed(**common | ended | more)


def progress(kind: str, eval_id: str = "42", *, at: float = BIRTH, attempt: Attempt | None = None) -> Progress:
    """Progress of the same Job that `event` is of."""
    of = event("running", eval_id, at=at)
    return Progress(
        id=event_id(of.job.uid, "progress", f"{kind} {at}"),
        status="running",
        eval_id=eval_id,
        timestamp=of.timestamp,
        time=of.time,
        job=of.job,
        metadata=of.metadata,
        kind=kind,  # type: ignore[arg-type]
        attempt=attempt or Attempt(pod="pod-a", exit_code=1, reason="Error", container="main"),
    )


class Teller:
    """Tells events in the order they are given."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._versions = itertools.count(1)

    @property
    def keys(self) -> Keys:
        return self.ledger.keys

    async def tell(self, *events: Event, created: float = BIRTH) -> None:
        """`created`: which Job of an evaluation is the newest."""
        for one in events:
            telling = Outgoing(one.id, one.status.value, encode(one))
            answer = await self._step(one.eval_id, one.job, one.status.value, created, (telling,))
            assert answer.count == 1, f"{one.status} of {one.eval_id}: {answer}"

    async def tell_progress(self, *told: Progress) -> None:
        """Of Jobs that run."""
        for one in told:
            telling = Outgoing(one.id, "progress", encode(one))
            await self._step(one.eval_id, one.job, "running", BIRTH, (telling,))

    async def see(self, eval_id: str, job: JobRef, created: float = BIRTH) -> None:
        """A Job that exists, and of which there is nothing to tell yet."""
        await self._step(eval_id, job, "pending", created, ())

    async def _step(
        self, eval_id: str, job: JobRef, status: str, created: float, outgoing: tuple[Outgoing, ...]
    ) -> StepResult:
        return await self.ledger.step(
            Step(
                uid=job.uid,
                version=next(self._versions),
                created=created,
                eval_id=eval_id,
                namespace=job.namespace,
                name=job.name,
                status=status,
                outgoing=outgoing,
            )
        )


@asynccontextmanager
async def telling_to(url: str, prefix: str) -> AsyncIterator[Teller]:
    client = connect(url)
    async with Ledger(client, Keys(prefix)) as ledger:
        yield Teller(ledger)
    await client.aclose()
