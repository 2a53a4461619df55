"""From a seed to a schedule."""

from chaos.fates import WITH_PODS
from chaos.faults import FAULTS
from chaos.plan import KINDS, PARTS, REST_SECONDS, plan


def test_the_same_seed_plans_the_same():
    assert plan(7, 100, 60, 25) == plan(7, 100, 60, 25)
    assert plan(7, 100, 60, 25) != plan(8, 100, 60, 25)


def test_the_faults_do_not_depend_on_the_jobs():
    assert plan(3, 10, 50, 25).faults == plan(3, 400, 50, 25).faults


def test_there_are_as_many_as_were_asked_for():
    planned = plan(1, 500, 40, 25)
    assert len(planned.jobs) == 500
    assert len(planned.faults) == 40
    assert planned.seconds == 80


def test_jobs_arrive_no_faster_than_the_rate():
    assert plan(1, 1000, 0, 25).seconds == 40


def test_one_thing_suffers_one_fault_at_a_time():
    free: dict[str, float] = {}
    for fault in plan(5, 0, 500, 25).faults:
        lane = KINDS[fault.kind].lane.replace("watch", "api")
        for target in fault.targets or ("",):
            at = free.get(f"{lane} {target}", 0.0)
            assert fault.at >= at - 0.002, fault
            free[f"{lane} {target}"] = fault.at + fault.seconds + REST_SECONDS


def test_few_faults_make_redis_forget_and_one_of_each_kind():
    for seed in range(20):
        for faults in (20, 80):
            forgetting = [fault.kind for fault in plan(seed, 0, faults, 25).faults if KINDS[fault.kind].forgets]
            assert sorted(forgetting) == ["redis-emptied", "redis-failover"]
    assert sum(KINDS[fault.kind].forgets for fault in plan(1, 0, 400, 25).faults) == 10


def test_after_redis_was_emptied_last_nothing_starts_anew():
    for seed in range(20):
        planned = plan(seed, 0, 40, 25)
        *others, last = planned.faults
        assert last is planned.finale
        assert last.kind == "redis-emptied"
        assert all(fault.at + fault.seconds < last.at for fault in others)


def test_a_run_in_which_redis_forgets_nothing_has_no_finale():
    assert plan(1, 0, 30, 25, {"kill", "stop"}).finale is None
    assert plan(1, 10, 0, 25).finale is None


def test_only_those_kinds_are_drawn_that_were_asked_for():
    assert {fault.kind for fault in plan(1, 0, 30, 25, {"kill", "stop"}).faults} == {"kill", "stop"}


def test_a_short_run_has_every_kind():
    for seed in range(20):
        assert {fault.kind for fault in plan(seed, 0, 40, 25).faults} == set(KINDS)


def test_a_run_may_have_nothing_but_one_kind_or_no_faults():
    assert {fault.kind for fault in plan(1, 0, 5, 25, {"redis-emptied"}).faults} == {"redis-emptied"}
    assert len(plan(1, 0, 5, 25, {"redis-emptied"}).faults) == 5
    assert plan(1, 10, 0, 25).faults == ()


def test_every_kind_is_a_fault():
    assert set(FAULTS) == set(KINDS)


def test_stops_are_shorter_in_a_short_run():
    longest = max(fault.seconds for fault in plan(1, 0, 40, 25).faults)
    assert longest <= 10
    assert max(fault.seconds for fault in plan(1, 0, 400, 25).faults if fault.kind == "stop") > 20


def test_a_fault_falls_on_one_part_or_on_all():
    for fault in plan(2, 0, 300, 25).faults:
        assert set(fault.targets) <= set(PARTS)


def test_every_fate_happens():
    assert {job.fate.name for job in plan(1, 1000, 0, 25).jobs} == set(WITH_PODS)
