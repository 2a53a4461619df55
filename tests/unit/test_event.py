"""The event: its id and its statuses."""

import uuid

import pytest

from jobcast.event import EVENT_NAMESPACE, TERMINAL, Ended, Status, event_id
from tests.golden.shapes import SHAPES, STARTED, UID

COMPLETED_ID = "9ae46cd6-d672-5e60-90b1-2f919282a9c7"
RUNNING_ID = "15871b1f-b967-525f-9608-334b127123bb"


def test_the_id_of_a_fact_is_the_same_for_ever() -> None:
    # Literal ids: consumers that remember ids must get the same ones after an upgrade.
    assert str(EVENT_NAMESPACE) == "8b0f6f43-3f0c-5f5e-9a3d-6f1f6d1a7c55"
    assert event_id(UID, Status.COMPLETED, "") == COMPLETED_ID
    assert event_id(UID, Status.RUNNING, STARTED) == RUNNING_ID


def test_ids_differ_by_job_status_and_recurrence() -> None:
    facts = [
        (UID, Status.RUNNING, STARTED),
        (UID, Status.RUNNING, "2026-11-20T11:00:00Z"),
        (UID, Status.SUSPENDED, STARTED),
        (UID, Status.COMPLETED, ""),
        (UID, Status.FAILED, ""),
        ("another", Status.COMPLETED, ""),
    ]
    ids = {event_id(*fact) for fact in facts}
    assert len(ids) == len(facts)
    assert {uuid.UUID(one).version for one in ids} == {5}


def test_three_statuses_are_an_end() -> None:
    assert {status for status in Status if status.is_terminal} == TERMINAL
    assert {"completed", "failed", "cancelled"} == TERMINAL


@pytest.mark.parametrize("name", SHAPES)
def test_an_event_knows_its_status(name: str) -> None:
    assert SHAPES[name].status is Status(name.partition("-")[0])
    assert isinstance(SHAPES[name], Ended) == (SHAPES[name].status in ("completed", "failed"))


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        SHAPES["running"].eval_id = "other"  # type: ignore[misc]
