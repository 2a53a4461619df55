"""What a controller warns of while it does its work: conflicting members, Jobs that its selector leaves out, missing
permissions."""

import json
import logging

import pytest

from jobcast import __version__
from jobcast.keys import Keys
from jobcast.service.membership import SCRIPT, Member, joining, leaving
from tests.conftest import eventually
from tests.controller.world import Replica, World
from tests.lines import capture_logs


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobcast.service.registration.EVERY_SECONDS", 0.02)
    monkeypatch.setattr("controller.checks.SELECTION_SECONDS", 0.02)
    monkeypatch.setattr("controller.checks.FIRST_SECONDS", 0.02)
    monkeypatch.setattr("controller.checks.PERMISSIONS_SECONDS", 0.02)


async def members_of(replica: Replica) -> list[str]:
    return [one["member"] for one in json.loads((await replica.get("/statusz"))[1])["members"]]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"selector": "app=other"}, "two installations share this prefix: controller"),
        ({"version": "99.0.0"}, f"an older controller ({__version__}, "),
        ({"version": "0.0.1"}, "an older worker (0.0.1, w) runs beside a newer controller"),
    ],
)
async def test_a_conflicting_member_is_reported_everywhere_and_makes_no_other_unready(
    world: World, other: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobcast.service.registration")
    key = Keys(world.prefix).parts
    member = Member(
        **{"kind": "worker", "name": "w", "version": __version__, "namespaces": (world.namespace,), **other}
        | {"selector": other.get("selector", "app=evaluation")}
    )

    async with world.controller() as replica:
        await eventually(lambda: members_of(replica))
        assert await replica.get("/readyz") == (200, "ok\n")
        await world.redis.eval(SCRIPT, 1, key, *joining(member))

        async def is_said() -> bool:
            status, text = await replica.get("/readyz")
            warnings = json.loads((await replica.get("/statusz"))[1])["warnings"]
            return (status, text[:12]) == (200, "ok\nwarning: ") and said in text and said in warnings[0]

        await eventually(is_said)
        await world.redis.eval(SCRIPT, 1, key, *leaving(member))

        async def is_well() -> bool:
            return await replica.get("/readyz") == (200, "ok\n")

        await eventually(is_well)
    assert caplog.messages == [
        "conflicting Jobcast instances share this prefix",
        "conflict between Jobcast instances resolved",
    ]
    assert said in caplog.records[0].__dict__["why"]


async def test_a_member_that_stops_leaves_no_record(world: World) -> None:
    key = Keys(world.prefix).parts
    async with world.controller() as one, world.controller():

        async def are_both() -> bool:
            return len(await members_of(one)) == 2

        await eventually(are_both)
        assert 0 < await world.redis.ttl(key) <= 86_400
    assert not await world.redis.exists(key)


async def test_a_selector_that_leaves_out_every_job_is_reported(world: World) -> None:
    with capture_logs() as logs:
        async with world.controller(label_selector="app=nothing") as replica:
            await world.run("left-out", "sleep 60")

            async def is_said() -> bool:
                status, text = await replica.get("/readyz")
                return status == 200 and "LABEL_SELECTOR app=nothing selects no Job" in text and "/left-out" in text

            await eventually(is_said)
            await world.run("chosen", "sleep 60", labels={"app": "nothing"})

            async def is_well() -> bool:
                return await replica.get("/readyz") == (200, "ok\n")

            await eventually(is_well)
    found = [line["event"] for line in logs if line.get("check") == "selection"]
    assert found == ["check failed", "check passed again"]


async def test_a_permission_that_only_few_jobs_need_is_reported_before_they_do(world: World) -> None:
    said = (
        f"this account may not patch jobs in {world.namespace}: "
        "add it to the Role and RoleBinding jobcast-controller (k8s/base/rbac.yaml)"
    )
    world.fault("status", code=403, verb="patch", resource="jobs", times=None)
    with capture_logs() as logs:
        async with world.controller(finalizer=True) as replica:

            async def is_said() -> bool:
                return await replica.get("/readyz") == (200, f"ok\nwarning: {said}\n")

            await eventually(is_said)
            # Logged once, however often it is checked.
            checks = len(world.wiretap.of("post", "selfsubjectaccessreviews"))
            await eventually(lambda: len(world.wiretap.of("post", "selfsubjectaccessreviews")) > checks + 20)
            world.cluster.faults.clear()

            async def is_well() -> bool:
                return await replica.get("/readyz") == (200, "ok\n")

            await eventually(is_well)
    found = [line for line in logs if line.get("check") == "permissions"]
    assert [line["event"] for line in found] == ["check failed", "check passed again"]
    assert found[0]["why"] == said
