"""What a reconciler remembers of a Job that is open. Pure."""

from collections.abc import Sequence

import msgspec

from jobcast.jobs.model import Pod
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
    is_held: bool = False
    """The Job was given our finalizer; the view may not show it yet."""
    is_claimed_elsewhere: bool = False
    """Another replica was reading its log when we last tried."""

    def see_end(self, now: float) -> float:
        """When its end was first seen."""
        if self.end_seen is None:
            self.end_seen = now
        return self.end_seen

    def forget_published(self) -> None:
        self.last_published, self.summary, self.notes = None, NOTHING, frozenset()
