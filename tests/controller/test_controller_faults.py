"""Each thing that an API server may answer, on each way that we ask it: a Job that lives meanwhile is published whole, and once."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

import controller.manager
from controller import workqueue
from jobcast.kube import Api
from tests.conftest import eventually
from tests.controller.world import World

WAYS = {
    "the-list-of-jobs": {"verb": "list", "resource": "jobs"},
    "the-watch-of-jobs": {"verb": "watch", "resource": "jobs"},
    "the-list-of-pods": {"verb": "list", "resource": "pods"},
    "the-watch-of-pods": {"verb": "watch", "resource": "pods"},
    "the-log": {"verb": "log"},
}
FAULTS: dict[str, dict[str, Any]] = {
    "is-cut": {"kind": "cut", "after_bytes": 3},
    "is-reset": {"kind": "cut", "after_bytes": 3, "rst": True},
    "stalls": {"kind": "stall", "after_bytes": 0, "seconds": 0.5},
    "is-answered-410": {"kind": "status", "code": 410},
    "is-answered-429": {"kind": "status", "code": 429, "retry_after": 1},
    "is-answered-500": {"kind": "status", "code": 500},
    "is-answered-503-by-a-proxy": {"kind": "status", "code": 503, "body": "upstream connect error"},
    "is-answered-with-nothing": {"kind": "empty"},
    "is-refused-for-a-while": {"kind": "status", "code": 403},
    "has-a-token-that-expired": {"kind": "status", "code": 401},
}
LOST_TO_THE_LOG = ("is-answered-410", "is-answered-500", "is-answered-with-nothing", "is-refused-for-a-while")
"""A log is not asked for again when the answer is an answer: it says that there is none, or why we do not get it."""


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mute watch is a dead link sooner than after a minute and a half."""
    monkeypatch.setattr(controller.manager, "Api", partial(Api, watch_silence=0.8))


@pytest.mark.must_survive(5)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_lost_or_published_twice_when(world: World, tmp_path: Path, way: str, fault: str) -> None:
    async with world.controller():
        await world.run("across", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo all of it; exit 3")
        await world.until("across", "running")
        # Credentials are read anew after the first refusal; what is refused then is refused.
        times = 1 if way == "the-log" and fault == "has-a-token-that-expired" else 2
        spoiled = world.fault(**WAYS[way], **FAULTS[fault], times=times)
        if way != "the-log":
            # What asks again: a watch that has ended, and a list after one that has expired.
            world.strike("expire" if "list" in way else "cut", verb="watch", resource=WAYS[way]["resource"])
            await eventually(lambda: spoiled.times != 2)
        (tmp_path / "go").touch()
        event = await world.until("across", "failed")
        await world.run("after")
        await world.until("after", "completed")
    assert await world.statuses("across") == ["running", "failed"]
    assert (event["exit_code"], len(event["attempts"])) == (3, 1)
    if way == "the-log" and fault in LOST_TO_THE_LOG:
        assert event["log"]["state"] in ("unavailable", "complete")
    else:
        assert (event["output"], event["log"]["state"]) == ("all of it\n", "complete")


@pytest.mark.must_survive(2)
@pytest.mark.parametrize("resource", ["jobs", "pods"])
async def test_a_watch_that_stalls_within_a_line_is_given_up_and_read_whole_the_next_time(
    world: World, tmp_path: Path, resource: str
) -> None:
    async with world.controller():
        await world.run("across", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo all of it; exit 3")
        await world.until("across", "running")
        assert world.strike("stall", verb="watch", resource=resource, mid_line=True) == 1
        (tmp_path / "go").touch()
        event = await world.until("across", "failed")
    assert (event["exit_code"], event["output"]) == (3, "all of it\n")
    assert await world.statuses("across") == ["running", "failed"]


@pytest.mark.must_survive(5)
async def test_what_failed_while_the_api_server_was_ill_does_not_keep_jobs_waiting_once_it_is_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause after a failure is the endpoint's: a Job of which the Pods could not be had has none of its own."""
    monkeypatch.setattr(workqueue, "BACKOFF_SECONDS", (3600.0, 3600.0))
    async with world.controller(log_wait_seconds=60) as replica:
        before = await replica.metric("jobcast_reconcile_errors_total", kind="throttled")
        for verb in ("watch", "list"):
            world.fault("status", code=503, verb=verb, resource="pods", times=None)
        world.strike("cut", verb="watch", resource="pods")
        names = [f"job-{number}" for number in range(3)]
        for name in names:
            await world.run(name, "echo all of it")

        async def have_failed() -> bool:
            return await replica.metric("jobcast_reconcile_errors_total", kind="throttled") >= before + len(names)

        await eventually(have_failed)
        world.cluster.faults.clear()
        for name in names:
            assert (await world.until(name, "completed"))["exit_code"] == 0
