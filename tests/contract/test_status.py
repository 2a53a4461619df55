"""What a Job goes through, as its watchers see it: every write, in order."""

from __future__ import annotations

import itertools

from jobcast.jobs.model import unix
from tests.api import Api, Obj, Recording, condition, container, is_running, make_job
from tests.conftest import eventually


def conditions(job: Obj) -> list[tuple[str, str]]:
    return [(c["type"], c["reason"]) for c in job["status"].get("conditions") or [] if c["status"] == "True"]


def story(recording: Recording, job: str) -> list[list[tuple[str, str]]]:
    """The conditions a Job had, one entry a change."""
    published = [conditions(event["object"]) for event in recording.of(job)]
    return [entry for entry, _ in itertools.groupby(published)]


async def until_over(recording: Recording, job: str) -> Obj:
    event = await recording.until(
        lambda event: (
            event["object"]["metadata"]["name"] == job
            and bool(condition(event["object"], "Complete") or condition(event["object"], "Failed"))
        )
    )
    return event["object"]


async def run(api: Api, job: Obj) -> tuple[Obj, Recording]:
    """Create it and see it end."""
    async with api.recording(api.jobs) as jobs:
        await api.create(job)
        ended = await until_over(jobs, job["metadata"]["name"])
    return ended, jobs


def counted(status: Obj) -> dict[str, int]:
    return {name: status[name] for name in ("active", "succeeded", "failed", "terminating", "ready") if name in status}


REACHED = "CompletionsReached"
BACKOFF = "BackoffLimitExceeded"


async def test_success(api: Api) -> None:
    job, seen = await run(api, make_job("a", "sleep 1"))
    assert story(seen, "a") == [
        [],
        [("SuccessCriteriaMet", REACHED)],
        [("SuccessCriteriaMet", REACHED), ("Complete", REACHED)],
    ]
    status = job["status"]
    assert counted(status) == {"succeeded": 1, "terminating": 0, "ready": 0}
    assert status["uncountedTerminatedPods"] == {}
    complete = condition(job, "Complete") or {}
    assert unix(complete["lastTransitionTime"]) - unix(status["completionTime"]) in (0, 1), "two looks at the clock"
    assert condition(job, "Complete")["message"] == "Reached expected number of succeeded pods"  # type: ignore[index]
    statuses = [event["object"]["status"] for event in seen.of("a")]
    assert statuses[0] == {}
    assert counted(statuses[1]) == {"active": 1, "terminating": 0, "ready": 0}
    assert statuses[1]["startTime"]
    uncounted = [status["uncountedTerminatedPods"].get("succeeded") for status in statuses[1:]]
    assert any(uncounted), "an ended Pod is first written down as uncounted, then counted"
    assert counted(statuses[-2]).get("succeeded") is None


async def test_failure_without_a_retry(api: Api) -> None:
    job, seen = await run(api, make_job("a", "exit 3", backoffLimit=0))
    assert story(seen, "a") == [
        [],
        [("FailureTarget", BACKOFF)],
        [("FailureTarget", BACKOFF), ("Failed", BACKOFF)],
    ]
    assert counted(job["status"]) == {"failed": 1, "terminating": 0, "ready": 0}
    assert "completionTime" not in job["status"]
    assert condition(job, "Failed")["message"] == "Job has reached the specified backoff limit"  # type: ignore[index]
    pods = (await api.get(api.pods))["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Failed"], "the Pod stays, for its log"
    (published,) = pods[0]["status"]["containerStatuses"]
    ended = published["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    assert ended["startedAt"] <= ended["finishedAt"]
    assert (published["ready"], published["started"], published["restartCount"]) == (False, False, 0)
    assert published["containerID"] == ended["containerID"]


async def test_failure_after_a_retry(api: Api) -> None:
    job, seen = await run(api, make_job("a", "exit 4", backoffLimit=1))
    assert counted(job["status"])["failed"] == 2
    failures = [event["object"]["status"].get("failed", 0) for event in seen.of("a")]
    assert failures == sorted(failures)
    assert len((await api.get(api.pods))["items"]) == 2
    first = next(event["object"] for event in seen.of("a") if event["object"]["status"].get("failed") == 1)
    assert conditions(first) == [], "a failed Pod is not yet a failed Job"


async def test_restarts_in_place_count_against_the_limit_and_the_pod_goes(api: Api) -> None:
    async with api.recording(api.pods) as pods:
        job, _ = await run(api, make_job("a", "exit 5", backoffLimit=1, pod={"restartPolicy": "OnFailure"}))
        gone = await pods.until(lambda event: event["type"] == "DELETED")
    assert conditions(job)[-1] == ("Failed", BACKOFF)
    assert counted(job["status"]) == {"failed": 1, "terminating": 0, "ready": 0}
    (published,) = gone["object"]["status"]["containerStatuses"]
    assert published["restartCount"] >= 1
    ended = published["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (5, "Error")
    assert (await api.get(api.pods))["items"] == [], "and its log with it"


async def test_a_deadline_takes_the_pod_first(api: Api) -> None:
    job, seen = await run(api, make_job("a", "sleep 100", activeDeadlineSeconds=2))
    reason = "DeadlineExceeded"
    assert story(seen, "a") == [[], [("FailureTarget", reason)], [("FailureTarget", reason), ("Failed", reason)]]
    assert counted(job["status"]) == {"failed": 1, "terminating": 0, "ready": 0}
    announced = next(event["object"] for event in seen.of("a") if condition(event["object"], "FailureTarget"))
    assert announced["status"]["terminating"] == 1, "FailureTarget comes while the Pod is still being stopped"

    async def has_no_pods() -> bool:
        return (await api.get(api.pods))["items"] == []

    await eventually(has_no_pods, 30)


async def test_a_container_that_never_started_is_published_as_unknown(api: Api) -> None:
    missing = {"containers": [container("main", "true", image="does-not-exist:1")]}
    async with api.recording(api.pods) as pods:
        await run(api, make_job("a", pod=missing, activeDeadlineSeconds=2))
        gone = await pods.until(lambda event: event["type"] == "DELETED")
    reasons = {
        status["state"]["waiting"]["reason"]
        for event in pods.events
        for status in event["object"]["status"].get("containerStatuses") or []
        if "waiting" in status["state"]
    }
    assert "ContainerCreating" in reasons
    (published,) = gone["object"]["status"]["containerStatuses"]
    ended = published["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "ContainerStatusUnknown")
    assert ended["startedAt"] is None
    assert "containerID" not in published


async def test_a_command_that_is_not_there_is_a_start_error(api: Api) -> None:
    wrong = {"containers": [container("main", "", command=["/no/such/binary"])]}
    await run(api, make_job("a", pod=wrong, backoffLimit=0))
    (pod,) = (await api.get(api.pods))["items"]
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["startedAt"]) == (128, "StartError", "1970-01-01T00:00:00Z")


async def test_suspended_from_the_start_then_resumed_then_paused(api: Api) -> None:
    async with api.recording(api.jobs) as jobs, api.recording(api.pods) as pods:
        await api.create(make_job("a", "sleep 60", suspend=True))
        paused = await jobs.until(lambda event: bool(condition(event["object"], "Suspended")))
        assert "startTime" not in paused["object"]["status"]
        assert pods.events == []
        await api.patch(f"{api.jobs}/a", {"spec": {"suspend": False}})
        running = await jobs.until(lambda event: event["object"]["status"].get("ready") == 1)
        assert not condition(running["object"], "Suspended")
        published = {c["type"]: (c["status"], c["reason"]) for c in running["object"]["status"]["conditions"]}
        assert published == {"Suspended": ("False", "JobResumed")}
        started = running["object"]["status"]["startTime"]
        await api.patch(f"{api.jobs}/a", {"spec": {"suspend": True}})
        await pods.until(lambda event: event["type"] == "DELETED")
        again = await jobs.until(
            lambda event: bool(condition(event["object"], "Suspended")) and "startTime" in event["object"]["status"]
        )
    assert again["object"]["status"]["startTime"] == started, "it is set anew on resuming, not cleared on pausing"
    assert "failed" not in again["object"]["status"], "a Pod taken down for a pause is no failure"


async def test_a_finished_job_goes_after_its_ttl(api: Api) -> None:
    async with api.recording(api.jobs) as jobs:
        await api.create(make_job("a", ttlSecondsAfterFinished=1))
        gone = await jobs.until(lambda event: event["type"] == "DELETED")
    assert condition(gone["object"], "Complete")
    assert (await api.get(api.pods))["items"] == []


async def test_an_indexed_job(api: Api) -> None:
    command = "echo index $JOB_COMPLETION_INDEX"
    job, seen = await run(api, make_job("a", command, completions=3, parallelism=2, completionMode="Indexed"))
    assert (job["status"]["succeeded"], job["status"]["completedIndexes"]) == (3, "0-2")
    assert max(event["object"]["status"].get("active", 0) for event in seen.of("a")) == 2
    key = "batch.kubernetes.io/job-completion-index"
    pods = (await api.get(api.pods))["items"]
    assert sorted(pod["metadata"]["annotations"][key] for pod in pods) == ["0", "1", "2"]
    for pod in pods:
        index = pod["metadata"]["labels"][key]
        assert pod["metadata"]["name"].startswith(f"a-{index}-")
        assert pod["spec"]["hostname"] == f"a-{index}"
        _, text, _ = await api.raw("GET", f"{api.pods}/{pod['metadata']['name']}/log")
        assert text == f"index {index}\n".encode()


async def test_of_parallel_pods_one_failure_takes_the_others(api: Api) -> None:
    command = '[ "$JOB_COMPLETION_INDEX" = 0 ] && { sleep 1; exit 2; }; sleep 100'
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0}
    job, _ = await run(api, make_job("a", command, **spec))
    assert conditions(job)[-1] == ("Failed", BACKOFF)
    assert counted(job["status"]) == {"failed": 2, "terminating": 0, "ready": 0}

    async def is_taken() -> bool:
        return len((await api.get(api.pods))["items"]) == 1

    await eventually(is_taken)


async def test_a_failure_policy_ends_a_job_at_once(api: Api) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    job, _ = await run(api, make_job("a", "exit 42", backoffLimit=5, podFailurePolicy={"rules": [rule]}))
    (pod,) = (await api.get(api.pods))["items"]
    published = condition(job, "Failed")
    assert published is not None
    assert published["reason"] == "PodFailurePolicy"
    where = f"{api.namespace}/{pod['metadata']['name']}"
    assert published["message"] == (
        f"Container main for pod {where} failed with exit code 42 matching FailJob rule at index 0"
    )


async def test_an_ignored_failure_does_not_count(api: Api) -> None:
    rule = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [42]}}
    pods = set()

    def is_the_second(event: Obj) -> bool:
        pods.add(event["object"]["metadata"]["uid"])
        return len(pods) == 2

    async with api.recording(api.jobs) as jobs, api.recording(api.pods) as seen:
        await api.create(make_job("a", "exit 42", backoffLimit=0, podFailurePolicy={"rules": [rule]}))
        await seen.until(is_the_second)  # there is no other reason for it than that the first one failed
    assert not any(event["object"]["status"].get("failed") or conditions(event["object"]) for event in jobs.of("a"))


async def test_a_limit_per_index_lets_the_other_indexes_go_on(api: Api) -> None:
    command = '[ "$JOB_COMPLETION_INDEX" = 1 ] && exit 9; true'
    spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 0}
    job, _ = await run(api, make_job("a", command, **spec))
    status = job["status"]
    assert conditions(job)[-1] == ("Failed", "FailedIndexes")
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1")
    assert (status["succeeded"], status["failed"]) == (2, 1)


async def test_too_many_failed_indexes_end_a_job(api: Api) -> None:
    command = '[ "$JOB_COMPLETION_INDEX" = 1 ] && exit 9; sleep 100'
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed"}
    job, _ = await run(api, make_job("a", command, backoffLimitPerIndex=0, maxFailedIndexes=0, **spec))
    assert conditions(job)[-1] == ("Failed", "MaxFailedIndexesExceeded")


async def test_a_success_policy_completes_a_job_early(api: Api) -> None:
    command = '[ "$JOB_COMPLETION_INDEX" = 0 ] && exit 0; sleep 100'
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed"}
    job, seen = await run(api, make_job("a", command, successPolicy={"rules": [{"succeededIndexes": "0"}]}, **spec))
    reason = "SuccessPolicy"
    assert story(seen, "a")[-2:] == [
        [("SuccessCriteriaMet", reason)],
        [("SuccessCriteriaMet", reason), ("Complete", reason)],
    ]
    assert (job["status"]["succeeded"], job["status"]["completedIndexes"]) == (1, "0")
    assert "failed" not in job["status"], "what was still running was not needed, and did not fail"


async def test_a_sidecar_does_not_keep_a_job_from_completing(api: Api) -> None:
    side = container("side", "trap 'exit 0' TERM; while true; do sleep 0.1; done", restartPolicy="Always")
    async with api.recording(api.pods) as pods:
        job, _ = await run(api, make_job("a", "sleep 1", pod={"initContainers": [side]}))

    def main_ended_while_side_runs(event: Obj) -> bool:
        status = event["object"]["status"]
        mains = status.get("containerStatuses") or [{"state": {}}]
        sides = status.get("initContainerStatuses") or [{"state": {}}]
        return "terminated" in mains[0]["state"] and "running" in sides[0]["state"]

    assert any(main_ended_while_side_runs(event) for event in pods.events)
    assert conditions(job)[-1] == ("Complete", REACHED)


async def test_an_init_container_that_fails_fails_the_pod(api: Api) -> None:
    first = container("first", "exit 7")
    await run(api, make_job("a", "true", backoffLimit=0, pod={"initContainers": [first]}))
    (pod,) = (await api.get(api.pods))["items"]
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    assert pod["status"]["phase"] == "Failed"


async def test_a_job_deleted_before_its_end_never_ends_even_if_a_finalizer_holds_it(api: Api) -> None:
    await api.create(make_job("a", "sleep 3", meta={"finalizers": ["example.com/hold"]}))
    await api.pod_of("a", is_running)
    await api.call("DELETE", f"{api.jobs}/a", params={"propagationPolicy": "Background"})
    await api.pod_of("a", lambda pod: pod["status"]["phase"] == "Succeeded")
    async with api.recording(api.jobs) as jobs:
        await api.patch(f"{api.jobs}/a", {"metadata": {"finalizers": None}})
        gone = await jobs.until(lambda event: event["type"] == "DELETED")
    assert conditions(gone["object"]) == []
    assert "succeeded" not in gone["object"]["status"]


async def test_what_happened_is_shown_in_events(api: Api) -> None:
    await run(api, make_job("a", "exit 1", backoffLimit=0))
    async with api.recording(f"/api/v1/namespaces/{api.namespace}/events", resourceVersion="0") as events:
        about = lambda event, kind, reason: (  # noqa: E731 - a name for a line
            event["object"]["involvedObject"]["kind"] == kind and event["object"]["reason"] == reason
        )
        for kind, reason in [("Job", "SuccessfulCreate"), ("Pod", "Scheduled"), ("Pod", "Started"), ("Job", BACKOFF)]:
            await events.until(lambda event, k=kind, r=reason: about(event, k, r))  # type: ignore[misc]


async def test_a_job_of_another_manager_is_left_alone(api: Api) -> None:
    async with api.recording(api.jobs) as jobs:
        await api.create(make_job("theirs", managedBy="example.com/nobody"))
        await api.create(make_job("ours"))
        await until_over(jobs, "ours")
    assert [event["type"] for event in jobs.of("theirs")] == ["ADDED"]
    assert jobs.of("theirs")[0]["object"]["status"] == {}
