"""Whatever happens to Jobs, replicas and Redis in whatever order: each Job's story is published once, in order, to its end."""

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
PICK = st.integers(0, 3)
EVERYTHING = 10**9
COUNT = st.sampled_from([0, 1, 2, EVERYTHING])
FAILURE = st.sampled_from(["", "", "refused", "lost"])
EXAMPLES = {"thorough": 2000}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 150)


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
            async with asyncio.timeout(60):
                return await work

        return self.runner.run(within())

    def stream(self) -> list[dict[str, Any]]:
        client = fakeredis.FakeRedis(server=self.server)
        entries = [json.loads(fields[b"event"]) for _, fields in client.xrange(KEYS.events)]
        client.close()
        return entries

    @initialize(replicas=st.integers(1, 2), clears_start=st.booleans())
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

    @rule(name=st.sampled_from("ab"), suspended=st.booleans(), retries=st.integers(0, 1))
    def job_is_made(self, name: str, suspended: bool, retries: int) -> None:
        if name not in {job.name for job in self.history.shown()}:
            job = self.history.create(name, suspended, retries)
            if not suspended:
                self.history.add_pod(job)

    @precondition(lambda self: self.jobs())
    @rule(pick=PICK, is_counted=st.booleans())
    def pod_starts(self, pick: int, is_counted: bool) -> None:
        job = _pick(self.jobs(), pick)
        if job.suspended is not None:
            return
        if not any(pod.is_active and pod.started is None for pod in job.pods):
            self.history.add_pod(job)
        self.history.start_pod(job, next(pod for pod in job.pods if pod.is_active and pod.started is None))
        if is_counted:
            self.history.count(job)

    @rule(pick=PICK, code=st.sampled_from([0, 1]), goes=st.booleans())
    def pod_ends_or_goes(self, pick: int, code: int, goes: bool) -> None:
        if found := self.pods(lambda job, pod: pod.started is not None and pod.finished is None):
            self.history.end_pod(*_pick(found, pick), code)
        if goes and (found := self.pods(lambda job, pod: pod.finished is not None or pod.deleted)):
            self.history.remove_pod(*_pick(found, pick))

    @precondition(lambda self: self.jobs())
    @rule(pick=PICK, times=st.integers(1, 2))
    def job_is_suspended_or_resumed(self, pick: int, times: int) -> None:
        job = _pick(self.jobs(), pick)
        for _ in range(times):
            self.history.suspend(job) if job.suspended is None else self.history.resume(job)

    @precondition(lambda self: self.jobs())
    @rule(pick=PICK, complete=st.booleans(), is_over=st.booleans())
    def job_ends_or_is_about_to(self, pick: int, complete: bool, is_over: bool) -> None:
        job = _pick(self.jobs(), pick)
        ran = any(pod.finished is not None and pod.code == 0 for pod in job.pods)
        if job.suspended is not None:
            return
        end = job.target or ("Complete" if complete and ran else "Failed")
        self.history.end(job, end) if is_over or job.target else self.history.aim(job, end)

    @precondition(lambda self: self.history.shown())
    @rule(pick=PICK, at_once=st.booleans())
    def job_goes(self, pick: int, at_once: bool) -> None:
        job = _pick(self.history.shown(), pick)
        if at_once or not job.is_open:
            self.history.vanish(job)
        else:
            self.history.ask_deletion(job)

    # What replicas and Redis do.

    @rule(pick=PICK, jobs=COUNT, pods=COUNT)
    def replica_watches(self, pick: int, jobs: int, pods: int) -> None:
        replica = _pick(self.replicas, pick)
        replica.watch_jobs(jobs)
        replica.watch_pods(pods)

    @rule(pick=PICK, pods=COUNT, failure=FAILURE)
    def replica_watches_and_tells(self, pick: int, pods: int, failure: str) -> None:
        replica = _pick(self.replicas, pick)
        replica.watch_jobs(EVERYTHING)
        replica.watch_pods(pods)
        replica.ledger.next_failure = failure
        self.run(replica.reconcile())

    @rule(pick=PICK, failure=FAILURE, at_most=st.sampled_from([1, 1000]))
    def replica_tells(self, pick: int, failure: str, at_most: int) -> None:
        replica = _pick(self.replicas, pick)
        replica.ledger.next_failure = failure
        self.run(replica.reconcile(at_most))

    @rule()
    def all_replicas_reconcile_at_the_same_time(self) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(replica.reconcile() for replica in self.replicas))

        self.run(all_of_them())

    @rule(pick=PICK)
    def time_passes_for_a_replica(self, pick: int) -> None:
        _pick(self.replicas, pick).pass_time()

    @rule(pick=PICK, is_killed=st.booleans())
    def replica_lists_again(self, pick: int, is_killed: bool) -> None:
        replica = _pick(self.replicas, pick)
        self.run(replica.restart() if is_killed else replica.relist())

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
        assert len(set(ids)) == len(ids), "an event was published twice"
        known = {job.uid: job for job in self.history.jobs}
        ended: set[str] = set()
        for entry in entries:
            uid, status = entry["job"]["uid"], entry["status"]
            assert uid not in ended, f"{status} follows the end of {uid}"
            assert entry["id"] in known[uid].ids(status), f"{uid} was never {status} so"
            if status in TERMINAL:
                ended.add(uid)
                self._check_end(known[uid], status, [e["status"] for e in entries if e["job"]["uid"] == uid])
        for job in self.history.jobs:
            self._check_order(job, [entry for entry in entries if entry["job"]["uid"] == job.uid])

    def _check_order(self, job: SimJob, entries: list[dict[str, Any]]) -> None:
        if len(entries) > 1 and entries[-1]["status"] in TERMINAL and entries[-2]["status"] == "running":
            del entries[-2]  # no replica saw it run, until one that did published it with the end
        moments = [moment for entry in entries if (moment := job.moment(entry["id"])) is not None]
        assert moments == sorted(moments), f"the story of {job.uid} went backwards"

    def _check_end(self, job: SimJob, end: str, statuses: list[str]) -> None:
        if end == "cancelled":
            assert job.gone or job.deleted is not None
            if not job.ran:
                assert "running" not in statuses, "it never ran"
        else:
            kind = {"completed": "Complete", "failed": "Failed"}[end]
            assert job.end == kind or (job.end is None and job.may_have(kind)), f"{job.uid} was never {end}"
        if end == "completed":
            assert "running" in statuses, "completed without having run"

    def settle(self) -> None:
        """Every replica catches up; then what was published must be what is."""
        for _ in range(3):
            for replica in self.replicas:
                self.drop_claims()
                self.run(replica.catch_up())
        self.every_story_is_in_order_and_true()
        published: dict[str, list[dict[str, Any]]] = {}
        for entry in self.stream():
            published.setdefault(entry["job"]["uid"], []).append(entry)
        client = fakeredis.FakeRedis(server=self.server)
        open_uids = {uid.decode() for uid in client.zrange(KEYS.open, 0, -1)}
        for job in self.history.jobs:
            last = published[job.uid][-1] if job.uid in published else None
            is_known = bool(client.exists(KEYS.job(job.uid)))
            if job.gone:
                assert not is_known or (last is not None and last["status"] in TERMINAL), f"{job.uid} has no end"
                assert job.uid not in open_uids
            elif job.end is not None or job.deleted is not None:
                assert last is not None, f"the end of {job.uid} was not published"
                assert last["status"] in TERMINAL
                assert job.uid not in open_uids
            elif job.suspended is not None:
                assert last is not None
                assert last["id"] == event_id(job.uid, "suspended", job.suspended)
            elif any(pod.started and job.start and pod.started > job.start and not pod.gone for pod in job.pods):
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
    """The same with a Redis that loses everything: what is published again has the ids that it had."""

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
