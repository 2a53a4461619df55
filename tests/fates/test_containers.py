"""Pods of more than one container, and containers that are started more than once."""

import pytest

from tests.api import Obj, container, is_finished
from tests.fates.fate import Fate

BACKOFF = "BackoffLimitExceeded"
AGAIN: Obj = {
    "restartPolicy": "OnFailure",
    "volumes": [{"name": "state", "emptyDir": {}}],
}
STATE: Obj = {
    "env": [{"name": "STATE", "value": "/state"}],
    "volumeMounts": [{"name": "state", "mountPath": "/state"}],
}


@pytest.mark.must_survive(11, 20)
async def test_is_restarted_in_place_and_succeeds(fate: Fate) -> None:
    job = await fate.run(
        "[ -e $STATE/again ] && echo second && exit 0; touch $STATE/again; echo first; exit 4",
        pod=AGAIN,
        main=STATE,
        backoffLimit=6,
    )
    end = await fate.ends(job, "running", "completed 0", progress=["attempt-ended 4"])
    (attempt,) = end["attempts"]
    assert (attempt["exit_code"], attempt["restarts"]) == (0, 1)
    second, first = attempt["logs"]
    assert (second["instance"], first["instance"]) == (1, 0)
    await fate.is_log(second, b"second\n")
    await fate.is_log(first, b"first\n")
    assert end["log"] == second
    record = await fate.record(job)
    assert [record[f"log:{attempt['pod']}/main/{instance}"] for instance in (0, 1)] == [first, second]


@pytest.mark.must_survive(19)
async def test_is_restarted_in_place_until_the_pod_is_taken_away(fate: Fate) -> None:
    job = await fate.run("echo try; exit 5", pod={"restartPolicy": "OnFailure"}, backoffLimit=2)
    end = await fate.ends(
        job,
        "running",
        f"failed 5 {BACKOFF}",
        progress=["attempt-ended 5", "attempt-ended 5", "main-ended 5"],
        or_progress=["attempt-ended 5"]
        * 3,  # its watch said that it waits for a restart before the Job's said that none comes
    )
    (attempt,) = end["attempts"]
    assert (attempt["exit_code"], attempt["restarts"]) == (5, 2)
    await fate.is_log(end["log"], b"try\n")
    assert [log["instance"] for log in attempt["logs"]] == [2, 1, 0]
    for log in attempt["logs"]:
        await fate.is_log(log, b"try\n")


@pytest.mark.must_survive(14)
async def test_has_a_native_sidecar(fate: Fate) -> None:
    side = container("side", "trap 'exit 0' TERM; while :; do sleep 0.1; done", restartPolicy="Always")
    job = await fate.run("echo done; sleep 1", pod={"initContainers": [side]})
    end = await fate.ends(job, "running", "completed 0")
    assert (end["container"], end["role"]) == ("main", "main")
    await fate.is_log(end["log"], b"done\n")


@pytest.mark.must_survive(14)
async def test_has_a_native_sidecar_and_fails(fate: Fate) -> None:
    side = container("side", "trap 'exit 0' TERM; while :; do sleep 0.1; done", restartPolicy="Always")
    job = await fate.run("echo oops; exit 3", pod={"initContainers": [side]})
    end = await fate.ends(job, "running", f"failed 3 {BACKOFF}")
    await fate.is_log(end["log"], b"oops\n")


@pytest.mark.must_survive(14)
@pytest.mark.parametrize(("code", "status"), [(0, "completed 0"), (9, f"failed 0 {BACKOFF}")])
async def test_has_an_ordinary_sidecar_that_outlives_it(fate: Fate, code: int, status: str) -> None:
    side = container("side", f"sleep {fate.stage.a_while}; exit {code}")
    manifest = fate.manifest("echo done")
    manifest["spec"]["template"]["spec"]["containers"].append(side)
    job = await fate.create(manifest)
    message = await fate.moves(job, "main-ended")
    assert not is_finished(await fate.api.job_of(job.name)), "published at once, while the sidecar still runs"
    assert (message["status"], message["attempt"]["exit_code"]) == ("running", 0)
    end = await fate.ends(job, "running", status, progress=["main-ended 0"])
    assert (end["container"], end["attempts"][0]["container"]) == ("main", "main")
    await fate.is_log(end["log"], b"done\n")


@pytest.mark.must_survive(14)
async def test_has_a_sidecar_before_it_in_the_list(fate: Fate) -> None:
    """The main container is the one of the annotation, not the first."""
    manifest = fate.manifest("echo aside", annotations={"jobcast/container": "score"})
    manifest["spec"]["template"]["spec"]["containers"].append(container("score", "echo scored; exit 6"))
    job = await fate.create(manifest)
    end = await fate.ends(job, "running", f"failed 6 {BACKOFF}")
    assert (end["container"], end["warnings"]) == ("score", [])
    await fate.is_log(end["log"], b"scored\n")


async def test_has_an_init_container_that_fails(fate: Fate) -> None:
    first, second = container("first", "echo one"), container("second", "echo two; exit 7")
    job = await fate.run("echo main", pod={"initContainers": [first, second]})
    end = await fate.ends(job, f"failed 7 {BACKOFF}")
    assert (end["container"], end["role"], end["output"]) == ("second", "init", "two\n")
    await fate.is_log(end["log"], b"two\n")
    (attempt,) = end["attempts"]
    assert (attempt["container"], attempt["role"], attempt["exit_code"]) == ("second", "init", 7)


async def test_has_an_init_container_that_fails_until_the_pod_is_taken_away(fate: Fate) -> None:
    first = container("first", "echo try; exit 7")
    pod = {"restartPolicy": "OnFailure", "initContainers": [first]}
    job = await fate.run("echo main", pod=pod, backoffLimit=1)
    end = await fate.ends(
        job,
        f"failed 7 {BACKOFF}",
        progress=["attempt-ended 7", "main-ended 7"],
        or_progress=["attempt-ended 7"] * 2,  # as above
    )
    assert (end["container"], end["role"], end["attempts"][0]["restarts"]) == ("first", "init", 1)
    await fate.is_log(end["log"], b"try\n")


async def test_has_init_containers_that_do_well(fate: Fate) -> None:
    init = container("prepare", "echo prepared > $STATE/said", **STATE)
    job = await fate.run("cat $STATE/said", pod={"initContainers": [init], "volumes": AGAIN["volumes"]}, main=STATE)
    end = await fate.ends(job, "running", "completed 0")
    assert (end["container"], end["role"]) == ("main", "main")
    await fate.is_log(end["log"], b"prepared\n")


@pytest.mark.must_survive(39)
async def test_has_a_selector_of_its_own(fate: Fate) -> None:
    """Its Pods do not have the labels that the Job controller gives to others."""
    manifest = fate.manifest("echo mine; exit 3", manualSelector=True, selector={"matchLabels": {"mine": "yes"}})
    manifest["spec"]["template"]["metadata"] = {"labels": {"mine": "yes"}}
    job = await fate.create(manifest)
    end = await fate.ends(job, "running", "failed 3 BackoffLimitExceeded")
    await fate.is_log(end["log"], b"mine\n")
