"""What counts as lost, published twice, out of order and after the end; each figure is made to say so once."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from chaos.truth import Truth
from chaos.verdict import Forgetting, Observed, PublishedEvent, Recorded, Verdict, judge


def a_truth(*statuses: str, gone: float | None = None, promised: bool = True) -> Truth:
    """A Job that went through these, at 10, 11, … seconds."""
    truth = Truth("job-0", "any", uid="u", gone=gone)
    for number, status in enumerate(statuses):
        fact = truth.note(
            status, 10.0 + number, str(number), "" if status in ("completed", "cancelled") else str(number)
        )
        if promised and status in ("completed", "failed", "cancelled"):
            truth.ends = {fact.id}
        elif promised and status == "running" and "completed" in statuses:
            truth.due = {fact.id}
    return truth


def stream(truth: Truth, *ranks: int) -> list[PublishedEvent]:
    return [
        PublishedEvent(f"{place}-0", truth.facts[rank].id, truth.facts[rank].status, truth.uid)
        for place, rank in enumerate(ranks)
    ]


def verdict(truth: Truth, *lives: list[PublishedEvent], **more: Any) -> Verdict:
    """Everything published was received, handled and recorded, unless `more` says otherwise."""
    published = [entry for life in lives for entry in life]
    last = lives[-1][-1] if lives[-1] else None
    known: dict[str, Any] = {
        "received": {entry.id: 20.0 for entry in published},
        "handled": frozenset(entry.id for entry in published),
        "records": {truth.name: Recorded(truth.uid, last.status, last.id)} if last else {},
    }
    return judge([truth], Observed(lives=lives, **(known | more)))


def test_everything_published_once_and_in_order_is_green():
    truth = a_truth("running", "completed")
    found = verdict(truth, stream(truth, 0, 1))
    assert found.is_green
    assert found.published == 2
    assert found.longest_delay == 10.0


def test_an_end_that_was_not_published_is_lost():
    truth = a_truth("running", "completed")
    assert verdict(truth, stream(truth, 0)).counts == {"lost": 1}


def test_an_end_without_the_running_before_it_is_lost_too():
    truth = a_truth("running", "completed")
    assert verdict(truth, stream(truth, 1)).counts == {"lost": 1}


def test_a_suspension_that_no_process_saw_is_not_lost():
    truth = a_truth("running", "suspended", "running", "completed")
    truth.due = {truth.facts[2].id}
    assert verdict(truth, stream(truth, 2, 3)).is_green


def test_twice_is_counted():
    truth = a_truth("running", "completed")
    assert verdict(truth, stream(truth, 0, 0, 1)).counts == {"twice": 1}


def test_a_past_that_follows_is_out_of_order():
    truth = a_truth("running", "suspended", "running")
    assert verdict(truth, stream(truth, 2, 1)).counts["order"] == 1


def test_what_follows_an_end_is_counted():
    truth = a_truth("running", "completed")
    found = verdict(truth, stream(truth, 1, 0), records={"job-0": Recorded("u", "completed", truth.facts[1].id)})
    assert found.counts == {"after": 1, "order": 1}


def test_what_was_never_true_is_counted():
    truth = a_truth("running", "completed")
    stranger = PublishedEvent("9-0", "another", "running", "u")
    assert verdict(truth, [stranger, *stream(truth, 0, 1)]).counts == {"invented": 1}


def test_what_the_consumer_or_a_worker_lacks_is_counted():
    truth = a_truth("running", "completed")
    life = stream(truth, 0, 1)
    first = truth.facts[0].id
    assert verdict(truth, life, received={first: 20.0}).counts == {"missing": 1}
    assert verdict(truth, life, handled=frozenset({first})).counts == {"unhandled": 1}


def test_a_record_that_says_something_else_is_counted():
    truth = a_truth("running", "completed")
    wrong = {"job-0": Recorded("u", "running", truth.facts[0].id)}
    assert verdict(truth, stream(truth, 0, 1), records=wrong).counts == {"record": 1}


def test_what_the_ledger_holds_open_is_counted():
    truth = a_truth("running", "completed")
    assert verdict(truth, stream(truth, 0, 1), open=["u"]).counts == {"open": 1}


def test_published_again_after_redis_forgot_is_neither_twice_nor_out_of_order():
    truth = a_truth("running", "completed")
    found = verdict(truth, stream(truth, 0, 1), stream(truth, 0, 1), forgettings=[Forgetting(15.0, 16.0)])
    assert found.is_green
    assert found.published == 2


def test_a_job_that_is_still_there_must_be_published_again_after_redis_forgot():
    truth = a_truth("running", "completed")
    found = verdict(truth, stream(truth, 0, 1), [], forgettings=[Forgetting(15.0, 16.0)])
    assert found.counts == {"lost": 1}


def test_a_job_that_is_gone_need_not_be_published_again():
    truth = a_truth("running", "cancelled", gone=11.0)
    assert verdict(truth, stream(truth, 0, 1), [], forgettings=[Forgetting(200.0, 201.0)]).is_green


def test_an_end_that_redis_forgot_with_its_job_is_said_and_not_counted_as_lost():
    truth = a_truth("running", "cancelled", gone=11.0)
    found = verdict(truth, stream(truth, 0), [], forgettings=[Forgetting(15.0, 16.0)])
    assert found.is_green
    assert found.forgotten == 1
    assert verdict(truth, stream(truth, 0), [], forgettings=[Forgetting(115.0, 116.0)]).counts == {"lost": 1}


def test_a_failed_job_whose_pods_went_while_redis_forgot_may_be_taken_to_have_run_and_no_other():
    truth = a_truth("failed", gone=16.0)
    end = stream(truth, 0)
    running = PublishedEvent("8-0", "of nobody", "running", truth.uid, at=16.5)

    def found(running: PublishedEvent, *forgettings: Forgetting) -> dict[str, int]:
        again = [running, replace(end[0], entry="9-0", at=16.5)]
        return dict(verdict(truth, end, again, forgettings=list(forgettings)).counts)

    assert found(running, Forgetting(15.0, 16.0)) == {}
    assert found(replace(running, at=15.5), Forgetting(15.0, 16.0)) == {"invented": 1}  # its Pods could be asked for
    assert found(running, Forgetting(200.0, 201.0)) == {"invented": 1}
    assert found(replace(running, status="suspended"), Forgetting(15.0, 16.0)) == {"invented": 1}


def test_a_job_that_went_before_anybody_knew_it_is_promised_nothing():
    truth = a_truth("running", "cancelled", gone=11.0, promised=False)
    assert verdict(truth, []).is_green


def test_an_exit_code_and_a_log_that_are_wrong_are_counted_and_those_that_are_missing_said():
    truth = a_truth("running", "completed")
    truth.exit_code, truth.log = 3, b"right"

    def published(code: int | None, log: str | None) -> Verdict:
        *before, end = stream(truth, 0, 1)
        return verdict(truth, [*before, replace(end, exit_code=code, log_sha256=log, log_reason="timeout")])

    right = hashlib.sha256(b"right").hexdigest()
    assert published(3, right).is_green
    assert published(4, right).counts == {"code": 1}
    assert published(3, "wrong").counts == {"log": 1}
    unknown = published(None, None)
    assert unknown.is_green
    assert (unknown.unknown_codes, unknown.without_log) == (1, {"timeout": 1})


@pytest.mark.parametrize(
    ("output", "size", "is_right"),
    [
        ("", 0, True),
        ("one\ntwo\n", 8, True),
        ("on", 14, True),
        ("one\n[... 4 bytes left out ...]\nthree\n", 14, True),
        ("one\n[... 4 bytes left out ...]\none\n", 14, False),
        ("two\n", 4, False),
        ("one\ntwo\nthree\nand more", 14, False),
        ("one\n", 15, False),
    ],
)
def test_an_output_that_is_not_of_the_log_is_counted(output: str, size: int, is_right: bool):
    truth = a_truth("running", "completed")
    truth.exit_code, truth.log = 0, b"one\ntwo\nthree\n"
    *before, end = stream(truth, 0, 1)
    end = replace(end, exit_code=0, log_reason="timeout", output=output, log_bytes=size)
    assert verdict(truth, [*before, end]).counts == ({} if is_right else {"output": 1})


def test_an_end_without_the_code_that_its_attempt_has_is_counted():
    truth = a_truth("running", "completed")
    truth.exit_code = 3
    *before, end = stream(truth, 0, 1)
    assert verdict(truth, [*before, replace(end, attempt_codes=(None, 1))]).is_green
    assert verdict(truth, [*before, replace(end, attempt_codes=(1, 3))]).counts == {"contradictory": 1}
    assert verdict(truth, [*before, replace(end, exit_code=3, attempt_codes=(1, 3))]).is_green


def test_a_job_that_no_process_ever_saw_is_lost_even_if_it_never_ended():
    truth = a_truth("running")
    assert verdict(truth, []).counts == {"lost": 1}
    assert verdict(truth, stream(truth, 0), open=["u"]).counts == {"open": 1}


def test_an_end_that_a_replica_could_still_publish_is_lost():
    truth = a_truth("running", "cancelled", gone=11.0)
    cut_off = [Forgetting(15.0, 16.0, all_of_it=False)]
    truth.known_at = 10.5
    assert verdict(truth, stream(truth, 0), stream(truth, 0), forgettings=cut_off).counts == {"lost": 1}
    truth.known_at = 14.0  # it may have been behind by so much
    assert verdict(truth, stream(truth, 0), [], forgettings=cut_off).forgotten == 1


@pytest.mark.parametrize(("lacking", "figure"), [("received", "missing"), ("handled", "unhandled")])
def test_what_was_published_long_before_redis_forgot_must_have_been_read(lacking: str, figure: str):
    truth = a_truth("running", "cancelled", gone=11.0)
    life = [replace(published, at=12.0) for published in stream(truth, 0, 1)]
    first = truth.facts[0].id
    read: dict[str, Any] = {lacking: {first: 20.0} if lacking == "received" else frozenset({first})}
    assert verdict(truth, life, [], forgettings=[Forgetting(200.0, 201.0)], **read).counts == {figure: 1}
    assert verdict(truth, life, [], forgettings=[Forgetting(15.0, 16.0)], **read).is_green


def test_many_ends_without_their_exit_code_or_log_are_counted_and_a_few_said():
    def of(silent: int) -> Verdict:
        truths = []
        for number in range(100):
            truth = Truth(f"job-{number}", "any", uid=str(number), exit_code=0, log=b"right")
            truth.ends = {truth.note("completed", 10.0, "1").id}
            truths.append(truth)
        life = [
            PublishedEvent(
                "1-0",
                fact.id,
                "completed",
                truth.uid,
                None if number < silent else 0,
                None if number < silent else hashlib.sha256(b"right").hexdigest(),
            )
            for number, truth in enumerate(truths)
            for fact in truth.facts
        ]
        received = {published.id: 20.0 for published in life}
        records = {truth.name: Recorded(truth.uid, "completed", truth.facts[0].id) for truth in truths}
        return judge(truths, Observed([life], received=received, records=records))

    assert of(25).is_green
    assert of(26).counts == {"uncoded": 26, "unlogged": 26}
