"""How Jobs end by themselves, or by the Job controller's rules: the reason verbatim, every attempt published once and listed."""

import pytest

from tests.api import Obj, condition, is_finished, is_running
from tests.fates.fate import Fate, stays

INDEX = "$JOB_COMPLETION_INDEX"
RULE = "batch.kubernetes.io/job-index-failure-count"
WAITING = "trap 'exit 7' TERM; sleep 300 & wait"
"""Ends with 7 when it is asked to, whatever a signal does to a container's first process on this stage."""


async def test_completes(fate: Fate) -> None:
    job = await fate.run("""echo '{"score": 0.5}'""")
    end = await fate.ends(job, "running", "completed 0")
    await fate.is_log(end["log"], b'{"score": 0.5}\n')
    assert (end["reason"], end["error"], end["output"]) == ("CompletionsReached", None, '{"score": 0.5}\n')
    assert (end["container"], end["role"], end["warnings"]) == ("main", "main", [])
    (attempt,) = end["attempts"]
    assert (attempt["exit_code"], attempt["reason"], attempt["restarts"]) == (0, "Completed", 0)
    complete = condition(await fate.api.ended(job.name), "Complete")
    assert complete is not None
    assert (end["reason"], end["time"]) == (complete["reason"], complete["lastTransitionTime"])
    record = await fate.record(job)
    assert (record["status"], record["event"], record["started_at"]) == ("completed", end, attempt["started_at"])
    assert record[f"log:{attempt['pod']}/main/0"] == end["log"]


async def test_fails_at_once(fate: Fate) -> None:
    job = await fate.run("echo oops >&2; exit 3")
    end = await fate.ends(job, "running", "failed 3 BackoffLimitExceeded")
    await fate.is_log(end["log"], b"oops\n")
    assert end["error"] == "BackoffLimitExceeded: Job has reached the specified backoff limit"


@pytest.mark.must_survive(11)
async def test_fails_after_retries(fate: Fate) -> None:
    job = await fate.run("echo $HOSTNAME; exit 3", backoffLimit=2)
    first = (await fate.moves(job, "attempt-ended"))["attempt"]
    listed = await fate.says(job, "attempts")
    assert (listed[0]["pod"], listed[0]["exit_code"]) == (first["pod"], 3), (
        "while the Job is open, they are in the record"
    )
    end = await fate.ends(
        job,
        "running",
        "failed 3 BackoffLimitExceeded",
        progress=["attempt-ended 3", "attempt-ended 3", "main-ended 3"],
    )
    assert [(attempt["exit_code"], attempt["reason"]) for attempt in end["attempts"]] == [(3, "Error")] * 3
    assert len({attempt["pod"] for attempt in end["attempts"]}) == 3
    for attempt in end["attempts"]:
        (log,) = attempt["logs"]
        await fate.is_log(log, f"{attempt['pod']}\n".encode())
    assert end["log"] == end["attempts"][-1]["logs"][0]
    assert "attempts" not in await fate.record(job)
    published = {message["attempt"]["pod"] for message in fate.progress(job)}
    assert published == {attempt["pod"] for attempt in end["attempts"]}


@pytest.mark.must_survive(11)
async def test_fails_once_and_then_succeeds(fate: Fate) -> None:
    # A new Pod knows by its annotation how often its index has failed.
    env = [{"name": "FAILURES", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{RULE}']"}}}]
    spec = {"completions": 1, "completionMode": "Indexed", "backoffLimit": 6, "backoffLimitPerIndex": 1}
    job = await fate.run("echo $FAILURES; [ $FAILURES = 1 ]", main={"env": env}, **spec)
    end = await fate.ends(job, "running", "completed 0", progress=["attempt-ended 1", "index-finished 0"])
    assert [attempt["exit_code"] for attempt in end["attempts"]] == [1, 0]
    for number, attempt in enumerate(end["attempts"]):
        await fate.is_log(attempt["logs"][0], f"{number}\n".encode())


async def test_runs_into_its_deadline(fate: Fate) -> None:
    job = await fate.run(f"echo waiting; {WAITING}", activeDeadlineSeconds=600)
    await fate.until(job, "running")
    await fate.patch(job, {"spec": {"activeDeadlineSeconds": 1}})
    end = await fate.ends(job, "running", "failed 7 DeadlineExceeded")
    await fate.is_log(end["log"], b"waiting\n")
    assert fate.events(job)[0]["timeout"] == 600.0


@pytest.mark.must_survive(13)
async def test_has_failed_for_all_but_the_condition(fate: Fate) -> None:
    script = "trap 'sleep 2; exit 7' TERM; sleep 300 & wait"
    job = await fate.run(script, pod={"terminationGracePeriodSeconds": 10})
    await fate.until(job, "running")
    await fate.api.evict((await fate.api.pod_of(job.name))["metadata"]["name"])
    target = await fate.api.job_of(job.name, lambda seen: condition(seen, "FailureTarget") is not None)
    assert not is_finished(target)
    await stays(lambda: fate.told_of(job) == ["running"])
    await fate.ends(job, "running", "failed 7 BackoffLimitExceeded")


@pytest.mark.must_survive(13)
async def test_has_succeeded_for_all_but_the_condition(fate: Fate) -> None:
    script = (
        f"{{ [ {INDEX} = 0 ] && sleep {fate.stage.a_while} && exit 0; }}; trap 'sleep 2; exit 7' TERM; sleep 300 & wait"
    )
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed"}
    rules = {"rules": [{"succeededIndexes": "0"}]}
    job = await fate.run(script, successPolicy=rules, pod={"terminationGracePeriodSeconds": 10}, **spec)
    target = await fate.api.job_of(job.name, lambda seen: condition(seen, "SuccessCriteriaMet") is not None)
    assert not is_finished(target)
    await stays(lambda: fate.told_of(job) == ["running"])
    await fate.ends(job, "running", "completed 0", progress=["index-finished 0"])


@pytest.mark.must_survive(12)
async def test_fails_at_once_by_its_pod_failure_policy(fate: Fate) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    job = await fate.run("echo so be it; exit 42", backoffLimit=5, podFailurePolicy={"rules": [rule]})
    end = await fate.ends(job, "running", "failed 42 PodFailurePolicy")
    await fate.is_log(end["log"], b"so be it\n")
    pod = end["attempts"][0]["pod"]
    assert end["error"] == (
        f"PodFailurePolicy: Container main for pod {fate.api.namespace}/{pod} failed with exit code 42 "
        "matching FailJob rule at index 0"
    )


@pytest.mark.must_survive(12)
async def test_has_a_failure_ignored_by_its_pod_failure_policy(fate: Fate) -> None:
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    script = f"trap 'exit 9' TERM; echo $HOSTNAME; sleep {fate.stage.a_while} & wait"
    job = await fate.run(script, podFailurePolicy={"rules": [rule]})
    first = (await fate.api.pod_of(job.name, is_running))["metadata"]["name"]
    await fate.api.evict(first)
    end = await fate.ends(job, "running", "completed 0", progress=["attempt-ended 9"])
    evicted, good = end["attempts"]
    assert (evicted["pod"], evicted["exit_code"], evicted["reason"]) == (first, 9, "EvictionByEvictionAPI")
    await fate.is_log(evicted["logs"][0], f"{first}\n".encode())
    await fate.is_log(end["log"], f"{good['pod']}\n".encode())


@pytest.mark.must_survive(12)
async def test_has_an_index_that_fails(fate: Fate) -> None:
    spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimit": 6}
    job = await fate.run(f"echo {INDEX}; [ {INDEX} != 1 ] || exit 9", backoffLimitPerIndex=0, **spec)
    end = await fate.ends(
        job,
        "running",
        "failed 9 FailedIndexes",
        progress=["index-finished 0", "index-finished 0", "index-finished 9"],
    )
    assert {message["attempt"]["index"] for message in fate.progress(job)} == {0, 1, 2}
    assert {attempt["index"]: attempt["exit_code"] for attempt in end["attempts"]} == {0: 0, 1: 9, 2: 0}
    for attempt in end["attempts"]:
        await fate.is_log(attempt["logs"][0], f"{attempt['index']}\n".encode())
    assert (await fate.record(job))["indexes"] == {"completed": "0,2", "failed": "1", "total": 3}


@pytest.mark.must_survive(12)
async def test_has_too_many_indexes_that_fail(fate: Fate) -> None:
    script = f"{{ [ {INDEX} = 1 ] && sleep {fate.stage.a_while} && exit 9; }}; {WAITING}"
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 6}
    job = await fate.run(script, backoffLimitPerIndex=0, maxFailedIndexes=0, **spec)
    end = await fate.ends(
        job, "running", "failed 9 MaxFailedIndexesExceeded", progress=["index-finished 9", "main-ended 7"]
    )
    assert {attempt["index"]: attempt["exit_code"] for attempt in end["attempts"]} == {0: 7, 1: 9}


@pytest.mark.must_survive(12)
async def test_succeeds_early_by_its_success_policy(fate: Fate) -> None:
    script = f"echo {INDEX}; {{ [ {INDEX} = 0 ] && sleep 1 && exit 0; }}; {WAITING}"
    rules = {"rules": [{"succeededIndexes": "0"}]}
    job = await fate.run(script, completions=2, parallelism=2, completionMode="Indexed", successPolicy=rules)
    end = await fate.ends(job, "running", "completed 0", progress=["index-finished 0"])
    assert end["reason"] == "SuccessPolicy"
    await fate.is_log(end["log"], b"0\n")


@pytest.mark.must_survive(12)
async def test_runs_several_pods_at_a_time(fate: Fate) -> None:
    job = await fate.run("echo $HOSTNAME; sleep 1", completions=4, parallelism=2)
    end = await fate.ends(job, "running", "completed 0")
    assert [attempt["exit_code"] for attempt in end["attempts"]] == [0] * 4
    for attempt in end["attempts"]:
        await fate.is_log(attempt["logs"][0], f"{attempt['pod']}\n".encode())


@pytest.mark.must_survive(12)
async def test_is_a_work_queue(fate: Fate) -> None:
    """Without completions it is complete when one Pod has succeeded and none runs any more."""
    spec: Obj = {"parallelism": 2, "completions": None}
    job = await fate.run("sleep 1", **spec)
    end = await fate.ends(job, "running", "completed 0")
    assert [attempt["exit_code"] for attempt in end["attempts"]] == [0, 0]


@pytest.mark.must_survive(12)
async def test_asks_for_nothing(fate: Fate) -> None:
    job = await fate.run(completions=0)
    end = await fate.ends(job, "completed -")
    assert (end["attempts"], end["log"]["state"], end["log"]["reason"]) == ([], "unavailable", "no-pod")


@pytest.mark.must_survive(12)
async def test_is_managed_by_somebody_else(fate: Fate) -> None:
    job = await fate.run(managedBy="example.com/elsewhere")
    started, ended = "2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z"
    await fate.patch(job, {"status": {"startTime": started, "active": 1, "ready": 1}}, "status")
    await fate.until(job, "running")
    met = {"type": "SuccessCriteriaMet", "status": "True", "reason": "Elsewhere", "lastTransitionTime": ended}
    await fate.patch(job, {"status": {"active": 0, "ready": 0, "conditions": [met]}}, "status")
    done = {"completionTime": ended, "conditions": [met, {**met, "type": "Complete"}]}
    await fate.patch(job, {"status": done}, "status")
    end = await fate.ends(job, "running", "completed -")
    assert (end["reason"], end["time"], end["duration_seconds"]) == ("Elsewhere", ended, 60.0)
    assert (end["attempts"], end["log"]["state"], end["log"]["reason"]) == ([], "unavailable", "no-pod")
