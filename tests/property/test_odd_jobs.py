"""A Job or a Pod with any value in any field is published, or not; what it says never raises, and costs no other Job its events."""

import asyncio
import json
from typing import Any

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobcast.event import TERMINAL
from jobcast.jobs.decode import Reading
from jobcast.jobs.facts import EventBuilder, EventContext, facts_due, unavailable
from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation
from jobcast.jobs.progress import build_progress, build_record_fields, find_notes, summarize
from jobcast.jobs.status import derive_status, infer_end
from jobcast.keys import Keys
from jobcast.kube import JOBS, PODS, Change, Resource
from jobcast.reconcile.view import build_step
from jobcast.wire import decode, decode_progress, encode
from tests.property.cluster import History
from tests.property.odd import JOB, POD, SNIPPETS, grafted, odd, places
from tests.property.replica import Replica
from tests.unit.objects import condition, ended_state, job_json, pod_json, waiting_state

READING = Reading()
GOOD = job_json(
    uid="good", name="good", version=50, conditions=[condition("Complete")], startTime="2026-11-20T10:00:00Z"
)
NEVER_STARTED = pod_json(waiting_state(), deleted=True)
GOOD_POD = pod_json(ended_state(), name="good-x", owner="good", version=40, phase="Succeeded")


def read(resource: Resource[Any], lines: list[bytes]) -> list[Any]:
    """What can be read of these objects."""
    found = (
        resource.change(b'{"type": "MODIFIED", "object": %s}' % line, READING, lambda reason: None) for line in lines
    )
    return [change.object for change in found if change is not None and change.object is not None]


def publish_all(job: Job, pods: list[Pod]) -> None:
    """All that a reconcile works out of a Job and its Pods, with the log gone."""
    for gone in (False, True):
        seen = infer_end(Observation(job, pods, is_gone=gone))
        now = derive_status(seen)
        builder = EventBuilder(seen, EventContext(unavailable("pod-gone")), now=lambda: "2026-11-20T12:00:00Z")
        for fact in facts_due(seen.job, now):
            decode(encode(builder.event(fact)))
        for note in find_notes(seen):
            decode_progress(encode(build_progress(seen, note, "running", lambda pod, container: [])))
        summarize(seen)
        build_step(seen.job, now.status, (), build_record_fields(seen, now, lambda pod, container: []))


@pytest.mark.must_survive(8)
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: repr(snippet[:20]))
def test_a_job_with_anything_in_any_field_can_be_published(snippet: bytes) -> None:
    """One by one, and all of them: what hypothesis draws is never all there is."""
    whole_job = read(JOBS, [json.dumps(JOB).encode()])[0]
    whole_pod, never_started = read(PODS, [json.dumps(one).encode() for one in (POD, NEVER_STARTED)])
    for at in range(len(places(JOB))):
        for job in read(JOBS, [grafted(JOB, at, snippet)]):
            publish_all(job, [])
            publish_all(job, [whole_pod])
            publish_all(job, [never_started])
    for at in range(len(places(POD))):
        for pod in read(PODS, [grafted(POD, at, snippet)]):
            publish_all(whole_job, [pod])
            publish_all(whole_job, [pod, whole_pod])


class Shown(History):
    """A cluster that shows what it is given."""

    def __init__(self, jobs: list[Job], pods: list[Pod]) -> None:
        super().__init__()
        self.jobs_shown, self.pods_shown = jobs, pods
        self.version = 1000

    def list_jobs(self) -> list[Job]:
        return self.jobs_shown

    def list_pods(self) -> list[Pod]:
        return self.pods_shown

    async def release(self, namespace: str, name: str, uid: str) -> None: ...

    async def pods_of(self, namespace: str, selector: str) -> list[Pod]:
        return self.pods_shown

    async def job(self, namespace: str, name: str) -> Job | None:
        return None


@pytest.mark.must_survive(8)
@settings(max_examples=200, deadline=None)
@given(jobs=st.lists(odd(JOB), max_size=2), pods=st.lists(odd(POD), max_size=3), is_gone=st.booleans())
def test_odd_jobs_and_pods_never_keep_others_from_being_published(
    jobs: list[bytes], pods: list[bytes], is_gone: bool
) -> None:
    async def story() -> None:
        keys, server = Keys("test"), fakeredis.FakeServer()
        odd_jobs: list[Job] = read(JOBS, [json.dumps(JOB).encode(), *jobs])
        shown = Shown(
            [*odd_jobs, *read(JOBS, [json.dumps(GOOD).encode()])],
            [*read(PODS, pods), *read(PODS, [json.dumps(GOOD_POD).encode()])],
        )
        replica = Replica(shown, server, keys)
        await replica.start()
        try:
            for _ in range(6):
                await replica.reconcile()
                replica.pass_time()
            if is_gone:
                for job in odd_jobs:
                    replica._jobs.change(Change("DELETED", str(job.version), job))
                for _ in range(6):
                    await replica.reconcile()
                    replica.pass_time()
            published = await replica.client.xrange(keys.events)
            of_good = [fields[b"status"].decode() for _, fields in published if b'"uid":"good"' in fields[b"event"]]
            assert of_good == ["running", "completed"]
            ends = [fields[b"event"] for _, fields in published if fields[b"status"].decode() in TERMINAL]
            uids = [json.loads(body)["job"]["uid"] for body in ends]
            assert len(uids) == len(set(uids)), "one end each"
        finally:
            await replica.stop()

    asyncio.run(story())
