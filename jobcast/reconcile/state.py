"""What a reconciler remembers of a Job that is open. Pure."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from jobcast.jobs.model import Job, Pod, Suspension
from jobcast.jobs.progress import NOTHING, Summary


class JobState(msgspec.Struct, gc=False):
    """One record per open Job, small: a controller has a hundred thousand of them. A cache: the ledger decides."""

    last_published: str | None = None
    """An event's id, or PENDING; None while the ledger was not asked."""
    summary: Summary = NOTHING
    """The part of the evaluation's record that was last written."""
    notes: frozenset[str] = frozenset()
    """The ids of the progress that was published."""
    end_seen: float | None = None
    """When the Job's end was first seen, by the reconciler's clock; the end waits for its log."""
    asked_pods: Sequence[Pod] | None = None
    """The Pods that the API server had when it was asked for them."""
    suspension: Suspension | None = None
    """The last one that is known to be the one before the current start."""
    eval_id: str | None = None
    """The one that it was recorded with; None while the ledger was not asked."""
    refused_since: float | None = None
    """Since when, by the reconciler's clock, the API server does not say whether the deleted Job exists."""
    is_held: bool = False
    """The Job was given our finalizer; the view may not show it yet."""
    is_claimed_elsewhere: bool = False
    """Another replica was reading its log when we last tried."""

    def with_first_id(self, job: Job) -> Job:
        """The Job under the id that it was recorded with: labels and annotations may change, an evaluation does not."""
        first = self.eval_id or job.eval_id
        return job if first == job.eval_id else replace(job, eval_id=first, later_eval_id=job.eval_id)

    def see_suspension(self, job: Job) -> None:
        known = self.suspension
        if job.suspended is not None:
            at = job.suspended.last_transition_time or ""
            version = known.version if known is not None and known.at == at else 0
            self.suspension = Suspension(at, job.version if job.is_to_be_suspended else version)
        elif known is not None and job.started is not None and known.resumed != job.started:
            # Another startTime than before: it was suspended again, and nobody looked.
            self.suspension = None if known.resumed else replace(known, resumed=job.started)

    def see_end(self, now: float) -> float:
        """When its end was first seen."""
        if self.end_seen is None:
            self.end_seen = now
        return self.end_seen

    def forget_published(self) -> None:
        self.last_published, self.summary, self.notes = None, NOTHING, frozenset()
