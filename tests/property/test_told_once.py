"""Whatever happens to Jobs, replicas and Redis in whatever order: each Job's story is told once, in order, to its end."""

import asyncio
import json
import os
from typing import Any

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobcast.event import TERMINAL, event_id
from jobcast.keys import Keys
from tests.property.cluster import History, SimJob, SimPod
from tests.property.replica import Replica

KEYS = Keys("test")
PICK = st.integers(0, 1000)
EXAMPLES = {"thorough": 2000}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 100)


class Story(RuleBasedStateMachine):
    """Rules in two kinds: what happens in the cluster, and what replicas and Redis do meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.history = History()
        self.server = fakeredis.FakeServer()
        self.replicas: list[Replica] = []
        self.flushed = 0

    def run(self, work: Any) -> Any:
        async def within() -> Any:
            async with asyncio.timeout(10):
                return await work

        return self.runner.run(within())

    def stream(self) -> list[dict[str, Any]]:
        client = fakeredis.FakeRedis(server=self.server)
        entries = [json.loads(fields[b"event"]) for _, fields in client.xrange(KEYS.events)]
        client.close()
        return entries

    @initialize(replicas=st.integers(1, 3), clears_start=st.booleans())
    def begin(self, replicas: int, clears_start: bool) -> None:
        self.history.clears_start = clears_start
        for _ in range(replicas):
            replica = Replica(self.history, self.server, KEYS)
            self.run(replica.start())
            self.replicas.append(replica)

    # What happens in the cluster.

    def jobs(self, *, is_open: bool = True) -> list[SimJob]:
        return [job for job in self.history.shown() if job.is_open or not is_open]

    def pods(self, is_wanted: Any) -> list[tuple[SimJob, SimPod]]:
        return [
            (job, pod) for job in self.jobs(is_open=False) for pod in job.pods if not pod.gone and is_wanted(job, pod)
        ]

    @rule(name=st.sampled_from("abc"), suspended=st.booleans())
    def create(self, name: str, suspended: bool) -> None:
        if name not in {job.name for job in self.history.shown()}:
            self.history.create(name, suspended)

    @precondition(lambda self: self.jobs())
    @rule(pick=PICK)
    def pod_is_made_and_starts(self, pick: int) -> None:
        job = _pick(self.jobs(), pick)
        if job.suspended is None:
            waiting = [pod for pod in job.pods if pod.is_active and pod.started is None]
            if waiting:
                self.history.start_pod(job, waiting[0])
            else:
                self.history.add_pod(job)

    @rule(pick=PICK, code=st.sampled_from([0, 0, 1, 137]))
    def pod_ends(self, pick: int, code: int) -> None:
        if found := self.pods(lambda job, pod: pod.started is not None and pod.finished is None):
            self.history.end_pod(*_pick(found, pick), code)

    @rule(pick=PICK)
    def pod_is_removed(self, pick: int) -> None:
        if found := self.pods(lambda job, pod: pod.finished is not None or pod.deleted):
            self.history.remove_pod(*_pick(found, pick))

    @precondition(lambda self: self.jobs())
    @rule(pick=PICK)
    def counters_are_brought_up_to_date(self, pick: int) -> None:
        self.history.count(_pick(self.jobs(), pick))

    @precondition(lambda self: self.jobs())
    @rule(pick=PICK)
    def job_is_suspended_or_resumed(self, pick: int) -> None:
        job = _pick(self.jobs(), pick)
        self.history.suspend(job) if job.suspended is None else self.history.resume(job)

    @precondition(lambda self: self.jobs())
    @rule(pick=PICK, complete=st.booleans())
    def job_ends(self, pick: int, complete: bool) -> None:
        job = _pick(self.jobs(), pick)
        ran = any(pod.finished is not None and pod.code == 0 for pod in job.pods)
        if job.suspended is None:
            self.history.end(job, "Complete" if complete and ran else "Failed")

    @precondition(lambda self: self.jobs())
    @rule(pick=PICK)
    def deletion_is_asked_for(self, pick: int) -> None:
        self.history.ask_deletion(_pick(self.jobs(), pick))

    @precondition(lambda self: self.history.shown())
    @rule(pick=PICK)
    def job_vanishes(self, pick: int) -> None:
        self.history.vanish(_pick(self.history.shown(), pick))

    # What replicas and Redis do.

    @rule(pick=PICK, jobs=st.integers(0, 4), pods=st.integers(0, 4))
    def replica_watches(self, pick: int, jobs: int, pods: int) -> None:
        replica = _pick(self.replicas, pick)
        replica.watch_jobs(jobs)
        replica.watch_pods(pods)

    @rule(pick=PICK, count=st.integers(1, 4))
    def replica_reconciles(self, pick: int, count: int) -> None:
        self.run(_pick(self.replicas, pick).reconcile(count))

    @rule()
    def all_replicas_reconcile_at_the_same_time(self) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(replica.reconcile() for replica in self.replicas))

        self.run(all_of_them())

    @rule(pick=PICK)
    def time_passes_for_a_replica(self, pick: int) -> None:
        _pick(self.replicas, pick).pass_time()

    @rule(pick=PICK)
    def replica_lists_again(self, pick: int) -> None:
        self.run(_pick(self.replicas, pick).relist())

    @rule(pick=PICK)
    def replica_is_killed_and_started(self, pick: int) -> None:
        self.run(_pick(self.replicas, pick).restart())

    @rule(pick=PICK, trouble=st.sampled_from(["refused", "lost"]))
    def the_next_step_is_refused_or_its_reply_lost(self, pick: int, trouble: str) -> None:
        _pick(self.replicas, pick).ledger.trouble_ahead = trouble

    @rule(pick=PICK)
    def replica_looks_whether_redis_remembers(self, pick: int) -> None:
        replica = _pick(self.replicas, pick)
        self.run(replica.look_at_epoch())
        if replica.must_relist:
            self.run(replica.relist())

    @rule()
    def claims_lapse(self) -> None:
        self.drop_claims()

    def drop_claims(self) -> None:
        client = fakeredis.FakeRedis(server=self.server)
        for key in client.keys("*:claim:*"):
            client.delete(key)
        client.close()

    @precondition(lambda self: self.flushed < self.flushes and len(self.stream()) > 2)
    @rule()
    def redis_is_flushed(self) -> None:
        self.flushed += 1
        client = fakeredis.FakeRedis(server=self.server)
        client.flushall()
        client.close()

    flushes = 0

    # What must hold.

    @invariant()
    def every_story_is_in_order_and_true(self) -> None:
        entries = self.stream()
        ids = [entry["id"] for entry in entries]
        assert len(set(ids)) == len(ids), "an event was told twice"
        known = {job.uid: job for job in self.history.jobs}
        ended: set[str] = set()
        for entry in entries:
            uid, status = entry["job"]["uid"], entry["status"]
            assert uid not in ended, f"{status} follows the end of {uid}"
            assert entry["id"] in known[uid].ids(status), f"{uid} was never {status} so"
            if status in TERMINAL:
                ended.add(uid)
                self._check_end(known[uid], status, [e["status"] for e in entries if e["job"]["uid"] == uid])

    def _check_end(self, job: SimJob, end: str, statuses: list[str]) -> None:
        if end == "cancelled":
            assert job.gone or job.deleted is not None
            if not job.ran:
                assert "running" not in statuses, "it never ran"
        else:
            assert end == {"Complete": "completed", "Failed": "failed"}[job.end or ""]
        if end == "completed":
            assert "running" in statuses, "completed without having run"

    def settle(self) -> None:
        """Every replica catches up; then what was told must be what is."""
        for _ in range(3):
            for replica in self.replicas:
                self.drop_claims()
                self.run(replica.catch_up())
        self.every_story_is_in_order_and_true()
        told: dict[str, list[dict[str, Any]]] = {}
        for entry in self.stream():
            told.setdefault(entry["job"]["uid"], []).append(entry)
        client = fakeredis.FakeRedis(server=self.server)
        open_uids = {uid.decode() for uid in client.zrange(KEYS.open, 0, -1)}
        for job in self.history.jobs:
            last = told[job.uid][-1] if job.uid in told else None
            is_known = bool(client.exists(KEYS.job(job.uid)))
            if job.gone:
                assert not is_known or (last is not None and last["status"] in TERMINAL), f"{job.uid} has no end"
                assert job.uid not in open_uids
            elif job.end is not None or job.deleted is not None:
                assert last is not None, f"the end of {job.uid} was not told"
                assert last["status"] in TERMINAL
                assert job.uid not in open_uids
            elif job.suspended is not None:
                assert last is not None
                assert last["id"] == event_id(job.uid, "suspended", job.suspended)
            elif job.start in job.ran and any(pod.started and pod.started > job.start for pod in job.pods):
                assert last is not None
                assert last["id"] == event_id(job.uid, "running", job.start)
        client.close()

    def teardown(self) -> None:
        try:
            if self.replicas:
                self.settle()
        finally:
            for replica in self.replicas:
                self.run(replica.stop())
            self.runner.close()


class ForgetfulStory(Story):
    """The same with a Redis that loses everything: what is told again has the ids that it had."""

    flushes = 2


def _pick(things: list[Any], number: int) -> Any:
    return things[number % len(things)]


SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

TestStory = pytest.mark.must_survive(32)(Story.TestCase)
TestStory.settings = SETTINGS
TestForgetfulStory = pytest.mark.must_survive(26)(ForgetfulStory.TestCase)
TestForgetfulStory.settings = settings(SETTINGS, max_examples=EXAMPLES // 2)
