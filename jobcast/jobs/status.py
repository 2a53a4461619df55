"""What a Job's status is, derived from what the cluster says of it and its Pods. Pure.

| standing | because |
| --- | --- |
| completed, failed | the condition Complete or Failed is True; nothing else ends a Job that is there |
| completed, failed | it is going or gone, and had reached its end by what it, or its Pods, said before (`concluded`) |
| cancelled | it is going (deletionTimestamp) or gone otherwise |
| suspended | the condition Suspended is True |
| running | a main container runs or has run since the last start |
| pending | none of these |

Counters never decide: they flicker during retries. `status.ready` is the one hint taken, for running only: a Pod that is
ready has its main container running, and the Job controller says so where the Pod itself was not seen.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from jobcast.event import PENDING, Status
from jobcast.jobs.model import Condition, Container, Job, Pod, main_container
from jobcast.jobs.observation import is_of_a_former_start, of_this_start, pod_outcome


class JobStatus(msgspec.Struct, frozen=True, gc=False):
    """Where a Job stands now."""

    status: str
    """A Status, or PENDING."""
    has_run: bool
    """So `running` is due before an end that comes without one."""

    @property
    def is_terminal(self) -> bool:
        return self.status in _ENDS


_ENDS = frozenset({Status.COMPLETED.value, Status.FAILED.value, Status.CANCELLED.value})


def derive_status(job: Job, pods: Sequence[Pod], *, gone: bool = False) -> JobStatus:
    """Where this Job stands. `gone`: the API server has it no more, and `job` is how it was seen last."""
    running = _runs(job, pods)
    if job.end is not None:
        completed = job.end.type == "Complete"
        return JobStatus(
            Status.COMPLETED if completed else Status.FAILED, running or _must_have_run(job, pods, completed)
        )
    if gone or job.deleted is not None:
        return JobStatus(Status.CANCELLED, running)
    if job.suspended is not None:
        # What its Pods did before is history: the Job runs again when it is resumed.
        return JobStatus(Status.SUSPENDED, running)
    if running and job.started is not None:
        return JobStatus(Status.RUNNING, True)
    # A Pod that runs under a Job without startTime: our view of the Job is the older one, and a newer one is on its way.
    return JobStatus(PENDING, False)


def infer_end(job: Job, pods: Sequence[Pod], *, gone: bool = False) -> Job:
    """The Job, with the end it had reached when it was deleted, if that much is known; else the very same Job.

    The Job controller does nothing more for a Job that is being deleted, so its condition never comes. What it had decided
    (SuccessCriteriaMet, FailureTarget), or what its Pods had shown by then, is its end all the same. A Pod that ended since
    it was asked to go shows nothing: it was killed, whatever its exit code.
    """
    if job.end is not None or (job.deleted is None and not gone):
        return job
    if job.target is not None:
        kind = "Complete" if job.target.type == "SuccessCriteriaMet" else "Failed"
        return replace(job, end=replace(job.target, type=kind))
    words = [found for pod in pods if (found := pod_outcome(job, pod)).ended_by_itself]
    good = [found for found in words if found.ended and found.ended.exit_code == 0]
    count = len({found.pod.index for found in good}) if job.is_indexed else len(good)
    bad = [found for found in words if found.pod.phase == "Failed" or (found.has_failed and not found.pod.restarts)]
    if job.completions and count >= job.completions:
        kind, deciders = "Complete", good
    elif job.retries is not None and len(bad) > job.retries:
        kind, deciders = "Failed", bad
    else:
        return job
    at = max((found.ended.finished_at or "" for found in deciders if found.ended), default="")
    return replace(job, end=Condition(type=kind, status="True", last_transition_time=at or None))


def main_containers(job: Job, pods: Iterable[Pod]) -> list[tuple[Pod, Container]]:
    """Each Pod of the Job's last start with its main container, where the kubelet has reported one."""
    found = []
    for pod in pods:
        container = main_container(job, pod)
        if container is not None and not is_of_a_former_start(job, pod, container):
            found.append((pod, container))
    return found


def first_start(job: Job, pods: Iterable[Pod]) -> str | None:
    """When a main container first ran since the last start, else when the Job started; the cluster's own words."""
    starts = [container.started_at for _, container in main_containers(job, pods) if container.started_at]
    return min(starts, default=job.started)


def _runs(job: Job, pods: Sequence[Pod]) -> bool:
    return job.ready > 0 or any(container.has_run for _, container in main_containers(job, pods))


def _must_have_run(job: Job, pods: Sequence[Pod], completed: bool) -> bool:
    """Whether a Job that ended ran, although nothing was seen to run.

    Only Pods can show that it did not: all of them are here, and no container of any started. A Job whose Pods are gone
    is taken to have run, once it had started.
    """
    if job.started is None or (completed and job.is_empty):
        return False
    if completed:
        return True
    return not of_this_start(job, pods) or len(pods) < job.ended_pods
