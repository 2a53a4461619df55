"""The store follows the Jobs that are open, not those there ever were."""

import gc
import tracemalloc

import pytest
from msgspec.structs import replace

from controller.store import MAX_ORPHANS, Store
from tests.unit.objects import ENDED, condition, ended_state, job, pod, running_state, waiting_state

RUNS = pod(running_state())
JOB = job()
UID = JOB.uid


@pytest.fixture
def store() -> Store:
    one = Store()
    one.put_job(JOB)
    return one


def test_a_job_is_found_by_its_uid(store: Store) -> None:
    newer = replace(JOB, version=101, ready=1)
    store.put_job(newer)
    assert store.job(UID) is newer
    assert store.job("other") is None
    assert (len(store), list(store.jobs()), store.pods(UID)) == (1, [newer], ())


@pytest.mark.must_survive(15)
def test_a_name_that_is_used_again_is_another_job(store: Store) -> None:
    again = replace(JOB, uid="again")
    store.remove_job(UID)
    store.put_job(again)
    assert store.is_gone(UID)
    assert not store.is_gone("again")
    assert store.job(UID) is JOB


def test_a_pod_that_says_something_new_names_its_job(store: Store) -> None:
    assert store.put_pod(pod(waiting_state())) == UID
    assert store.put_pod(RUNS) == UID
    assert store.put_pod(replace(RUNS, version=999)) is None, "nothing that anybody reads has changed"
    assert store.pods(UID)[0].version == 999


def test_pods_without_an_owner_are_not_kept(store: Store) -> None:
    assert store.put_pod(pod(owner="")) is None
    assert store.pods("") == ()


def test_a_job_without_pods_had_none_once_all_up_to_then_were_seen(store: Store) -> None:
    store.pods_seen("evals", "300")
    assert store.pods_version("evals") == 0, "what was there before is unknown"
    store.pods_listed("evals", "300")
    store.pods_seen("evals", "301")
    assert store.pods_version("evals") == 301


def test_pods_dropped_with_the_end_of_their_job_may_be_there_when_it_is_forgotten(store: Store) -> None:
    store.pods_listed("evals", "300")
    store.drop(UID)
    store.put_pod(RUNS)
    store.forget_ended()
    store.put_job(JOB)
    store.pods_seen("evals", "301")
    assert (store.pods(UID), store.pods_version("evals")) == ((), 0)


def test_pods_that_made_room_for_others_may_be_there(store: Store) -> None:
    store.pods_listed("evals", "300")
    for number in range(MAX_ORPHANS + 1):
        store.put_pod(pod(running_state(), owner=f"job-{number}", name=f"pod-{number}"))
    store.trim_orphans()
    assert store.pods_version("evals") == 0


def test_a_pod_seen_before_its_job_is_adopted(store: Store) -> None:
    early = pod(running_state(), owner="later", name="early")
    assert store.put_pod(early) is None
    store.put_job(job(uid="later"))
    assert store.pods("later") == (early,)
    store.put_job(job(uid="later", version=101))
    assert store.pods("later") == (early,)


def test_a_pod_that_came_and_went_before_its_job_was_seen_is_still_its_attempt(store: Store) -> None:
    early = pod(running_state(), owner="later", name="early")
    store.put_pod(early)
    store.remove_pod(early)
    store.put_job(job(uid="later"))
    assert [found.gone for found in store.pods("later")] == [True]


@pytest.mark.must_survive(34)
def test_pods_without_a_job_of_ours_are_bounded_and_the_oldest_make_room(store: Store) -> None:
    for number in range(MAX_ORPHANS + 10):
        store.put_pod(pod(running_state(), owner=f"job-{number}", name=f"pod-{number}"))
    store.trim_orphans()
    for number in range(MAX_ORPHANS + 10):
        store.put_job(job(uid=f"job-{number}"))
    assert [number for number in range(20) if not store.pods(f"job-{number}")] == list(range(10))


def test_no_pod_is_dropped_while_the_jobs_are_still_being_listed(store: Store) -> None:
    for number in range(2 * MAX_ORPHANS):
        store.put_pod(pod(running_state(), owner=f"job-{number}", name=f"pod-{number}"))
    for number in range(2 * MAX_ORPHANS):
        store.put_job(job(uid=f"job-{number}"))
    assert all(store.pods(f"job-{number}") for number in range(2 * MAX_ORPHANS))


@pytest.mark.must_survive(9)
def test_a_pod_that_is_gone_stays_with_its_job_as_it_was_seen_last(store: Store) -> None:
    ended = pod(ended_state(3))
    store.put_pod(ended)
    assert store.remove_pod(ended) == UID
    (last,) = store.pods(UID)
    assert (last.gone, last.deleted, last.containers) == (True, True, ended.containers)
    assert store.pods_in(None) == []


@pytest.mark.must_survive(9)
def test_a_job_that_went_before_its_end_was_published_is_kept_until_then(store: Store) -> None:
    store.put_pod(RUNS)
    assert store.remove_job(UID) is True
    assert store.is_gone(UID)
    assert store.job(UID) is JOB
    store.drop(UID)
    assert (store.job(UID), store.is_gone(UID), store.pods(UID), store.uids_in(None)) == (None, False, (), set())


@pytest.mark.must_survive(34)
def test_of_an_ended_job_nothing_is_kept_but_its_uid(store: Store) -> None:
    store.put_pod(RUNS)
    store.drop(UID)
    assert (store.job(UID), store.pods(UID), len(store), store.ended_count) == (None, (), 0, 1)
    assert store.uids_in(None) == {UID}
    assert store.put_pod(RUNS) is None, "its Pods say nothing new any more"
    assert store.remove_job(UID) is False
    assert (store.uids_in(None), store.ended_count) == (set(), 0)


def test_a_job_that_ended_before_we_started_is_kept_by_its_uid(store: Store) -> None:
    store.put_ended(replace(JOB, uid="before", namespace="other"))
    assert store.uids_in("other") == {"before"}
    assert store.uids_in("evals") == {UID}
    assert store.remove_job("before") is False


def test_what_was_never_there_is_removed_and_dropped_without_an_error(store: Store) -> None:
    assert store.remove_job("other") is False
    store.drop("other")
    assert store.remove_pod(pod(owner="other")) is None
    assert store.uids_in(None) == {UID}


def test_a_job_that_appears_again_is_not_gone(store: Store) -> None:
    store.remove_job(UID)
    store.put_job(replace(JOB, deleted=ENDED))
    assert not store.is_gone(UID)


@pytest.mark.must_survive(26)
def test_after_redis_lost_data_ended_jobs_are_reconciled_again(store: Store) -> None:
    store.drop(UID)
    store.forget_ended()
    assert store.uids_in(None) == set()
    store.put_job(JOB)
    assert store.job(UID) is JOB


def test_pods_are_listed_by_namespace(store: Store) -> None:
    store.put_pod(RUNS)
    store.put_pod(replace(RUNS, uid="elsewhere", namespace="other"))
    assert store.pods_in("evals") == [RUNS]
    assert len(store.pods_in(None)) == 2


def memory_of(make: range, ended: bool) -> float:
    """Bytes a Job that the store holds takes, decoded from JSON like a real one."""
    store = Store()
    store.put_job(job(uid="warm up"))
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in make:
        uid = f"6f9d3b52-63a5-4a83-9a41-{number:012}"
        name = f"evaluation-of-model-{number}"
        conditions = [condition("Complete")] if ended else None
        store.put_job(job(uid=uid, name=name, labels={"eval-id": str(number)}, conditions=conditions))
        if ended:
            store.drop(uid)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(make)


@pytest.mark.must_survive(34)
def test_an_open_job_takes_two_kilobytes_and_an_ended_one_a_few_words() -> None:
    assert memory_of(range(2000), ended=False) <= 2048
    assert memory_of(range(2000), ended=True) <= 300


@pytest.mark.must_survive(34)
def test_jobs_that_come_and_go_leave_nothing() -> None:
    store = Store()

    def live(numbers: range) -> None:
        for number in numbers:
            one = job(uid=f"job-{number}")
            store.put_job(one)
            store.put_pod(pod(ended_state(), owner=one.uid, name=f"pod-{number}"))
            if number % 2:
                store.drop(one.uid)
                store.remove_job(one.uid)
            else:
                store.remove_job(one.uid)
                store.drop(one.uid)

    live(range(500))
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    live(range(500, 3000))
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 50_000
    assert (len(store), store.ended_count, store.uids_in(None)) == (0, 0, set())
