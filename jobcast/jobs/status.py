"""The status of a Job, derived from what the cluster says of it and its Pods. Pure.

| status | because |
| --- | --- |
| completed, failed | the condition Complete or Failed is True; nothing else ends a Job that exists |
| completed, failed | it was deleted after it, or its Pods, had shown this end (`infer_end`) |
| cancelled | it was deleted, or has a deletionTimestamp, before any end |
| suspended | the condition Suspended is True |
| running | a main container runs, or has run since the last start |
| pending | none of these |

Counters never decide: they flicker during retries. `status.ready` is the one exception, for running only: a ready Pod has its
main container running, and the Job controller reports it even where we did not see the Pod.
"""

import msgspec
from msgspec.structs import replace

from jobcast.event import PENDING, TERMINAL, Status
from jobcast.jobs.model import Condition
from jobcast.jobs.observation import Observation


class JobStatus(msgspec.Struct, frozen=True, gc=False):
    status: str
    """A Status, or PENDING."""
    has_run: bool
    """`running` is due before an end, even if it was never published."""

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


def derive_status(seen: Observation) -> JobStatus:
    job = seen.job
    running = job.ready > 0 or any(one.container.has_run for one in seen.current if one.role == "main")
    if job.end is not None:
        completed = job.end.type == "Complete"
        return JobStatus(Status.COMPLETED if completed else Status.FAILED, running or _must_have_run(seen, completed))
    if seen.is_gone or job.deleted is not None:
        return JobStatus(Status.CANCELLED, running)
    if job.suspended is not None:
        # What its Pods did before is history: the Job runs again when it is resumed.
        return JobStatus(Status.SUSPENDED, running)
    if running and job.started is not None:
        return JobStatus(Status.RUNNING, True)
    # A Pod that runs under a Job without startTime: this Job is outdated, and the watch will bring a newer one.
    return JobStatus(PENDING, False)


def infer_end(seen: Observation) -> Observation:
    """The same, with the end that the Job had reached when it was deleted; the very same where none is known.

    The Job controller stops working on a Job that is being deleted, so its condition never comes. What it had decided
    (SuccessCriteriaMet, FailureTarget), or what its Pods had shown by then, is its end all the same. A Pod that ended after
    its deletion was requested shows nothing: it was killed, whatever its exit code.
    """
    job = seen.job
    if job.end is not None or (job.deleted is None and not seen.is_gone):
        return seen
    if job.target is not None:
        kind = "Complete" if job.target.type == "SuccessCriteriaMet" else "Failed"
        return _with_end(seen, replace(job.target, type=kind))
    ended = [one for one in seen.outcomes if one.ended_by_itself and not one.may_restart]
    good = [one for one in ended if one.exit_code == 0]
    count = len({one.pod.index for one in good}) if job.is_indexed else len(good)
    bad = [one for one in ended if one.has_failed]
    if job.completions and count >= job.completions:
        kind, deciders = "Complete", good
    elif job.retries is not None and len(bad) > job.retries:
        kind, deciders = "Failed", bad
    else:
        return seen
    at = max((one.finished_at or "" for one in deciders), default="")
    return _with_end(seen, Condition(type=kind, status="True", last_transition_time=at or None))


def find_first_start(seen: Observation) -> str | None:
    """When a main container first ran since the last start, else when the Job started, as the cluster says."""
    starts = [one.container.started_at for one in seen.current if one.role == "main" and one.container.started_at]
    return min(starts, default=seen.job.started)


def _with_end(seen: Observation, end: Condition) -> Observation:
    return Observation(replace(seen.job, end=end), seen.pods, is_gone=seen.is_gone, suspension=seen.suspension)


def _must_have_run(seen: Observation, completed: bool) -> bool:
    """Whether a Job that ended ran, although nothing was seen to run.

    Only its Pods can show that it did not run: all of them are here, and no container of any started. A Job whose Pods are
    gone counts as having run, if it had started.
    """
    job = seen.job
    if job.started is None or (completed and job.is_empty):
        return False
    if completed:
        return True
    return not seen.current or len(seen.pods) < job.ended_pods
