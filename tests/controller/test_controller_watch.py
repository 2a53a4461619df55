"""What the watch must survive: cut, mute, expired, throttled. Nothing of it may change what is published."""

import asyncio
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

import controller.manager
from controller import liveness
from jobcast.kube import Api
from tests.conftest import eventually
from tests.controller.world import Replica, Request, World, make_job

JOBS = "/jobs"


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bookmarks missing are a dead link, instead of a minute and a half without a byte."""
    monkeypatch.setattr(controller.manager, "Api", partial(Api, watch_silence=0.8))


async def _life(world: World, name: str) -> None:
    """A Job from its first to its last event."""
    await world.run(name)
    await world.until(name, "completed")
    assert await world.statuses(name) == ["running", "completed"]


@pytest.mark.must_survive(1)
async def test_a_watch_that_expires_with_an_event_is_listed_again_and_misses_nothing(world: World) -> None:
    async with world.controller() as replica:
        before = await replica.metric("jobcast_watch_restarts_total", reason="expired")
        await world.run("during", "sleep 60")
        await world.until("during", "running")
        world.fault("stall", verb="list", seconds=0.3, times=2)
        assert world.strike("expire", verb="watch") == 2
        await world.delete("during")  # missed by every watch, seen by the list that follows
        await world.run("meanwhile")
        await world.until("during", "cancelled")
        await world.until("meanwhile", "completed")
        assert await replica.metric("jobcast_watch_restarts_total", reason="expired") >= before + 2
    assert await world.statuses("during") == ["running", "cancelled"]


@pytest.mark.must_survive(1)
async def test_a_watch_refused_with_410_is_listed_again(world: World) -> None:
    async with world.controller():
        world.fault("status", code=410, verb="watch", times=2)
        world.strike("cut", verb="watch")
        await _life(world, "after")


@pytest.mark.must_survive(1)
async def test_history_that_is_compacted_while_the_watch_is_down_is_listed_again(world: World) -> None:
    async with world.controller():
        await world.cluster.go_down()
        job = world.cluster.create(make_job("missed"), world.namespace)
        await eventually(
            lambda: "succeeded" in world.cluster.registry.get(_jobs(), world.namespace, "missed")["status"]
        )
        world.cluster.compact()
        await world.cluster.come_up()
        event = await world.until("missed", "completed")
    assert event["job"]["uid"] == job["metadata"]["uid"]


@pytest.mark.must_survive(1)
async def test_a_list_that_expires_between_two_pages_is_begun_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pages_of(monkeypatch, 2)
    for number in range(5):
        await world.run(f"job-{number}")
    await eventually(lambda: world.has_ended("job-4"))
    await world.run("gone-before", "sleep 60")
    seconds: list[Request] = []

    def expire_the_second_page(request: Request) -> None:
        if "continue" in request.query and request.path.endswith(JOBS):
            seconds.append(request)
            if len(seconds) == 1:
                world.fault("status", code=410, verb="list", resource="jobs")

    world.wiretap.before = expire_the_second_page
    async with world.controller():
        for number in range(5):
            await world.until(f"job-{number}", "completed")
        await world.until("gone-before", "running")
        assert "cancelled" not in await world.statuses("gone-before"), "half a list is no evidence"
    assert len(seconds) > 1


@pytest.mark.must_survive(1)
async def test_a_server_to_which_every_version_is_too_old_is_not_asked_in_a_hot_loop(world: World) -> None:
    async with world.controller():
        world.fault("status", code=410, verb="watch", resource="jobs", times=None)
        world.strike("cut", verb="watch", resource="jobs")
        await eventually(lambda: _recent(world, "watch", 1.0) > 0)
        await asyncio.sleep(1)  # the time is what is measured
        assert _recent(world, "list", 1.0) < 10
        await world.run("published-anyway")
        await world.until("published-anyway", "completed")
        world.cluster.faults.clear()


@pytest.mark.must_survive(2)
async def test_a_watch_that_is_open_and_mute_is_opened_again_from_the_last_version(
    world: World, short_silence: None
) -> None:
    async with world.controller() as replica:
        await world.run("before")
        await world.until("before", "completed")
        lists = len(world.wiretap.of("list", JOBS))
        opened = len(world.wiretap.of("watch", JOBS))
        world.strike("stall", verb="watch")
        await world.run("during")
        await world.until("during", "completed")
        first, *_, last = world.wiretap.of("watch", JOBS)
        assert len(world.wiretap.of("watch", JOBS)) > opened
        assert len(world.wiretap.of("list", JOBS)) == lists, "nothing was lost, so nothing is listed again"
        assert int(last.query["resourceVersion"]) > int(first.query["resourceVersion"])
        text = (await replica.get("/metrics"))[1]
        assert f'jobcast_watch_last_byte_age_seconds{{namespace="{world.namespace}",resource="jobs"}}' in text
        assert await replica.metric("jobcast_watch_restarts_total", reason="unreachable") > 0


@pytest.mark.must_survive(2)
async def test_a_quiet_watch_is_kept_by_its_bookmarks(world: World, short_silence: None) -> None:
    async with world.controller():
        opened = len(world.wiretap.of("watch"))
        await asyncio.sleep(1.2)  # longer than the silence that is allowed
        assert len(world.wiretap.of("watch")) == opened


@pytest.mark.must_survive(3)
@pytest.mark.parametrize(
    "fault", [{"rst": False}, {"rst": True}, {"mid_line": True}], ids=["closed", "reset", "within-a-line"]
)
async def test_the_end_of_a_stream_is_no_evidence_about_a_job(
    world: World, fault: dict[str, Any], tmp_path: Any
) -> None:
    async with world.controller() as replica:
        await world.run("steady", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
        await world.until("steady", "running")
        for _ in range(3):
            opened = len(world.wiretap.of("watch"))
            assert world.strike("cut", verb="watch", **fault) == 2
            await eventually(lambda before=opened: len(world.wiretap.of("watch")) >= before + 2)
            await eventually(lambda: len(world.cluster.faults.streams) == 2)
        await eventually(replica.is_ready)
        assert await world.statuses("steady") == ["running"]
        (tmp_path / "go").touch()
        await world.until("steady", "completed")


@pytest.mark.must_survive(3)
async def test_an_api_server_that_goes_down_and_up_costs_nothing_but_time(world: World) -> None:
    async with world.controller() as replica:
        await world.run("across", "sleep 0.3; echo done")
        await world.until("across", "running")
        await world.cluster.go_down()
        why = await eventually(replica.why_not_ready)
        assert "no answer from the API server" in why
        assert (await replica.get("/livez"))[0] == 200, "a restart would not help"
        await world.cluster.come_up()
        event = await world.until("across", "completed")
        await eventually(replica.is_ready)
    assert event["output"] == "done\n"
    assert await world.statuses("across") == ["running", "completed"]


@pytest.mark.must_survive(5)
async def test_a_server_that_asks_us_to_wait_is_left_alone_for_so_long(world: World) -> None:
    async with world.controller() as replica:
        world.fault("status", code=429, retry_after=1, verb="watch", resource="jobs", times=2)
        world.strike("cut", verb="watch", resource="jobs")
        await world.run("patient")
        await world.until("patient", "completed")
        asked = world.wiretap.of("watch", JOBS)
        gaps = [later.at - earlier.at for earlier, later in pairwise(asked[1:])]
        assert len(gaps) == 2
        assert min(gaps) >= 1
        assert await replica.metric("jobcast_watch_restarts_total", reason="throttled") >= 2


@pytest.mark.must_survive(5)
async def test_a_server_that_fails_is_asked_less_and_less_often(world: World) -> None:
    async with world.controller() as replica:
        world.fault("status", code=503, verb="watch", resource="jobs", times=4)
        world.strike("cut", verb="watch", resource="jobs")

        async def says_why() -> bool:
            return "currently unable" in await replica.why_not_ready()

        await eventually(says_why)
        await world.run("patient")
        await world.until("patient", "completed")
        asked = world.wiretap.of("watch", JOBS)
        gaps = [later.at - earlier.at for earlier, later in pairwise(asked[1:])]
        assert len(gaps) == 4
        assert all(gap >= floor for gap, floor in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=True)), gaps
        await eventually(replica.is_ready)


@pytest.mark.must_survive(5)
async def test_an_empty_answer_to_a_watch_makes_no_hot_loop(world: World) -> None:
    async with world.controller():
        world.fault("empty", verb="watch", resource="jobs", times=None)
        world.strike("cut", verb="watch", resource="jobs")
        await eventually(lambda: _recent(world, "watch", 1.0) > 0)
        await asyncio.sleep(1)  # the time is what is measured
        assert 0 < _recent(world, "watch", 1.0) < 15
        world.cluster.faults.clear()
        await _life(world, "after")


@pytest.mark.must_survive(7)
async def test_a_long_list_is_read_page_by_page_and_selected_by_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pages_of(monkeypatch, 50)
    world.is_redis_steady = True
    for number in range(230):
        world.cluster.create(make_job(f"many-{number}", suspend=True), world.namespace)
    async with world.controller():

        async def all_told() -> bool:
            return len(await world.published()) == 230

        await eventually(all_told)
    lists = world.wiretap.of("list", JOBS)
    assert [request.query["limit"] for request in lists] == ["50"] * 5
    assert all(request.query["labelSelector"] == "app=evaluation" for request in lists)
    assert {event["status"] for event in await world.published()} == {"suspended"}


@pytest.mark.must_survive(9)
async def test_a_job_that_loses_its_label_is_not_cancelled_and_goes_on_when_it_has_it_again(
    world: World, tmp_path: Any
) -> None:
    async with world.controller():
        await world.run("relabelled", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo done")
        await world.until("relabelled", "running")
        await world.patch("relabelled", {"metadata": {"labels": {"app": None}}})
        await _life(world, "witness")
        assert await world.statuses("relabelled") == ["running"]
        await world.patch("relabelled", {"metadata": {"labels": {"app": "evaluation"}}})
        (tmp_path / "go").touch()
        event = await world.until("relabelled", "completed")
    assert event["output"] == "done\n"
    assert await world.statuses("relabelled") == ["running", "completed"]


def _recent(world: World, verb: str, seconds: float) -> int:
    now = asyncio.get_running_loop().time()
    return sum(request.at > now - seconds for request in world.wiretap.of(verb, JOBS))


def _pages_of(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    pages = Api.pages
    monkeypatch.setattr(Api, "pages", lambda *arguments: pages(*arguments, limit=size))


def _jobs() -> Any:
    from devcluster.scheme import JOBS as RESOURCE

    return RESOURCE


@pytest.mark.must_survive(5)
async def test_a_job_that_lives_while_the_pods_cannot_be_watched_is_published_with_exit_code_and_log(
    world: World,
) -> None:
    """The watch of Jobs may be well when that of Pods is not; then the API server is asked for the Pods of the Job."""
    async with world.controller():
        world.fault("status", code=429, retry_after=300, verb="watch", resource="pods")
        world.strike("cut", verb="watch", resource="pods")
        await world.run("unseen", "echo all; exit 6")
        event = await world.until("unseen", "failed")
    assert (event["exit_code"], event["output"], len(event["attempts"])) == (6, "all\n", 1)
    assert await world.statuses("unseen") == ["running", "failed"]


@pytest.mark.must_survive(2)
async def test_a_job_that_ends_while_the_watch_of_pods_is_mute_is_published_with_exit_code_and_log(
    world: World, tmp_path: Any
) -> None:
    async with world.controller(log_wait_seconds=4):
        await world.run("half-seen", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo all; exit 6")
        await world.until("half-seen", "running")
        world.strike("stall", verb="watch", resource="pods")
        (tmp_path / "go").touch()
        event = await world.until("half-seen", "failed")
    assert (event["exit_code"], event["output"]) == (6, "all\n")


@pytest.mark.must_survive(35)
async def test_liveness_is_false_while_a_watch_gets_no_answer_and_the_server_answers_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "UNANSWERED_SECONDS", 0.5)
    monkeypatch.setattr(liveness, "CHECK_SECONDS", 0.05)

    async def livez(replica: Replica, code: int) -> bool:
        return (await replica.get("/livez"))[0] == code

    async with world.controller() as replica:
        assert (await replica.get("/livez"))[0] == 200
        for verb in ("list", "watch"):
            world.fault("cut", verb=verb, resource="jobs", after_bytes=0, times=None)
        world.strike("cut", resource="jobs")
        await eventually(lambda: livez(replica, 503))
        assert "jobs in " in (await replica.get("/livez"))[1]
        world.cluster.faults.clear()
        await eventually(lambda: livez(replica, 200))
        await _life(world, "after")


@pytest.mark.must_survive(35)
@pytest.mark.parametrize("code", [403, 500])
async def test_liveness_is_true_while_the_server_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(liveness, "UNANSWERED_SECONDS", 0.2)
    monkeypatch.setattr(liveness, "CHECK_SECONDS", 0.05)
    async with world.controller() as replica:
        reason = "forbidden" if code == 403 else "throttled"
        before = await replica.metric("jobcast_watch_restarts_total", reason=reason)
        world.fault("status", resource="jobs", code=code, times=None)
        world.strike("cut", resource="jobs")

        async def is_refused_again() -> bool:
            return await replica.metric("jobcast_watch_restarts_total", reason=reason) >= before + 4

        await eventually(is_refused_again)
        assert (await replica.get("/livez"))[0] == 200, "a restart would not help"
        world.cluster.faults.clear()
