"""Which Pods of a resumed Job belong to the start before its suspension, with clocks apart and nobody looking."""

from typing import Any

import pytest

from jobcast.jobs.model import Job, Pod, Suspension
from jobcast.jobs.observation import Observation
from jobcast.jobs.status import derive_status
from jobcast.reconcile.state import JobState
from tests.unit.objects import condition, ended_state, job, pod, running_state, waiting_state

FIRST = "2026-11-20T10:00:00Z"
SUSPENDED_AT = "2026-11-20T10:30:00Z"
MADE = "2026-11-20T10:59:53Z"
RESUMED = "2026-11-20T11:00:00Z"
"""startTime, written 7 s after the first Pods of the resumed Job were made."""
SEEN = Suspension(SUSPENDED_AT, version=150, resumed=RESUMED)
NODE_CLOCKS = ["2026-11-20T10:59:54Z", "2026-11-20T10:49:54Z", "2026-11-20T11:09:54Z", "2026-11-20T08:00:00Z"]


def resumed(*conditions: dict[str, Any], **fields: Any) -> Job:
    return job(
        startTime=RESUMED,
        conditions=[condition("Suspended", "False"), *conditions],
        spec={"completions": 1, "backoffLimit": 6},
        **fields,
    )


def made(at: str, state: dict[str, Any], *, asked: str | None = None, version: int = 300, **fields: Any) -> Pod:
    meta = {"creationTimestamp": at} | ({"deletionTimestamp": asked} if asked else {})
    return pod(state, meta=meta, version=version, **fields)


@pytest.mark.must_survive(12, 33)
@pytest.mark.parametrize("clock", NODE_CLOCKS)
@pytest.mark.parametrize("seen", [SEEN, None])
def test_a_pod_made_before_the_start_time_of_the_resumed_job_runs_it(clock: str, seen: Suspension | None) -> None:
    one = made(MADE, running_state(clock))
    assert derive_status(Observation(resumed(), [one], suspension=seen)).status == "running"


@pytest.mark.must_survive(12, 33)
@pytest.mark.parametrize("clock", NODE_CLOCKS)
@pytest.mark.parametrize("seen", [SEEN, None])
def test_its_end_is_the_jobs_end_whatever_its_nodes_clock_says(clock: str, seen: Suspension | None) -> None:
    one = made(MADE, ended_state(3, clock, clock), phase="Failed")
    found = Observation(resumed(condition("Failed")), [one], suspension=seen).decider
    assert found is not None
    assert found.exit_code == 3


@pytest.mark.must_survive(12, 33)
@pytest.mark.parametrize("clock", NODE_CLOCKS)
@pytest.mark.parametrize("seen", [SEEN, None])
@pytest.mark.parametrize("phase", ["Running", "Failed", "Succeeded"])
def test_a_pod_that_the_suspension_killed_says_nothing(clock: str, seen: Suspension | None, phase: str) -> None:
    for state in (running_state(clock), ended_state(143, clock, clock), waiting_state()):
        former = made(FIRST, state, asked=SUSPENDED_AT, phase=phase)
        assert derive_status(Observation(resumed(), [former], suspension=seen)).status == "pending"
        assert Observation(resumed(condition("Failed")), [former], suspension=seen).decider is None


@pytest.mark.must_survive(12, 33)
@pytest.mark.parametrize("clock", NODE_CLOCKS)
@pytest.mark.parametrize("seen", [SEEN, None])
def test_a_pod_that_failed_before_the_suspension_does_not_make_the_resumed_job_run(
    clock: str, seen: Suspension | None
) -> None:
    former = made(FIRST, ended_state(1, clock, clock), name="former", phase="Failed")
    assert derive_status(Observation(resumed(), [former], suspension=seen)).status == "pending"
    now = made(MADE, ended_state(3, FIRST, FIRST), name="now", phase="Failed")
    found = Observation(resumed(condition("Failed")), [former, now], suspension=seen).decider
    assert found is not None
    assert found.pod.name == "now", "it was made later, whatever the clocks of the two nodes say"


@pytest.mark.must_survive(12)
def test_the_only_attempt_that_ended_is_not_left_out_of_the_end() -> None:
    former = made(FIRST, ended_state(3, FIRST, FIRST), phase="Failed")
    seen = Observation(resumed(condition("Failed")), [former], suspension=SEEN)
    assert not seen.is_explained, "the one that decided may still come"
    assert seen.decider is not None
    assert seen.decider.exit_code == 3


def test_within_one_second_versions_decide() -> None:
    """Suspended and resumed within a second, and a Pod of each start made in it."""
    quick = Suspension(MADE, version=150, resumed=MADE)
    former = made(MADE, ended_state(1), version=149, name="former", phase="Failed")
    now = made(MADE, ended_state(3), version=151, name="now", phase="Failed")
    assert [one.pod.name for one in Observation(resumed(), [former, now], suspension=quick).current] == ["now"]


def test_a_pod_that_is_evicted_while_the_others_are_made_is_of_this_start() -> None:
    evicted = made(MADE, running_state(MADE), asked="2026-11-20T10:59:56Z")
    assert derive_status(Observation(resumed(), [evicted], suspension=SEEN)).status == "running"


def test_what_is_known_of_the_last_suspension() -> None:
    state = JobState()
    paused = condition("Suspended", lastTransitionTime=SUSPENDED_AT)
    state.see_suspension(job(conditions=[paused], spec={"suspend": True}, version=150))
    assert state.suspension == Suspension(SUSPENDED_AT, 150)
    state.see_suspension(job(conditions=[paused], spec={"suspend": False}, version=160))
    assert state.suspension == Suspension(SUSPENDED_AT, 150), "Pods of the resume may be made by now"
    state.see_suspension(resumed(version=170))
    assert state.suspension == SEEN
    assert Suspension.parse(str(SEEN)) == SEEN
    state.see_suspension(resumed(version=180))
    assert state.suspension == SEEN
    state.see_suspension(job(startTime="2026-11-20T12:00:00Z", conditions=[condition("Suspended", "False")]))
    assert state.suspension is None, "it was suspended once more, and nobody looked"


@pytest.mark.parametrize("text", ["", "x", "a b c", "a " + "9" * 30, "a -1 b", "a ² b"])
def test_what_others_wrote_is_no_suspension(text: str) -> None:
    assert Suspension.parse(text) is None
