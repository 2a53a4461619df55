"""A finalizer put on and taken off by a patch: what an API server answers, and what our own client makes of it."""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from multidict import CIMultiDict

from jobcast import kube
from jobcast.kube import Access
from jobcast.kube.credentials import Credentials
from jobcast.kube.kubeconfig import Cluster, Kubeconfig, User
from tests.api import Api, Obj, make_job

OURS = "jobcast.dev/outcome"
THEIRS = "example.com/theirs"
STRATEGIC = "application/strategic-merge-patch+json"


def _access(api: Api) -> Access:
    """With credentials that are at hand already."""
    config = Kubeconfig("test", (), "", Cluster(server=api.url), User(), api.namespace)
    tls: Any = api.session.connector._ssl if api.url.startswith("https") else False  # type: ignore[union-attr]
    return Access(config, Credentials(CIMultiDict(api.session.headers), tls, b"", math.inf, math.inf, {}))


@pytest.fixture(autouse=True)
async def nothing_is_held(api: Api) -> AsyncIterator[None]:
    """Afterwards: a finalizer that nobody takes off would keep the namespace for ever."""
    yield
    for job in (await api.get(api.jobs))["items"]:
        await api.patch(f"{api.jobs}/{job['metadata']['name']}", {"metadata": {"finalizers": None}})


@pytest.fixture
async def ours(api: Api) -> AsyncIterator[kube.Api]:
    async with kube.Api(_access(api)) as client:
        yield client


async def idle_job(api: Api, name: str, *finalizers: str) -> str:
    """A Job that nobody runs; its uid."""
    job = make_job(name, meta={"finalizers": list(finalizers)}, managedBy="example.com/nobody")
    uid: str = (await api.create(job))["metadata"]["uid"]
    return uid


async def finalizers(api: Api, name: str) -> list[str]:
    return (await api.get(f"{api.jobs}/{name}"))["metadata"].get("finalizers") or []


def on(uid: str) -> Obj:
    return {"metadata": {"uid": uid, "finalizers": [OURS]}}


def off(uid: str) -> Obj:
    return {"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [OURS]}}


async def patch(api: Api, name: str, change: Obj) -> tuple[int, Obj]:
    return await api.call("PATCH", f"{api.jobs}/{name}", json=change, headers={"Content-Type": STRATEGIC})


async def test_a_strategic_patch_adds_and_removes_one_finalizer_and_twice_is_no_write(api: Api) -> None:
    uid = await idle_job(api, "a", THEIRS)
    for change, left in ((on(uid), [OURS, THEIRS]), (off(uid), [THEIRS])):
        status, first = await patch(api, "a", change)
        assert (status, first["metadata"]["finalizers"]) == (200, left)
        status, second = await patch(api, "a", change)
        assert (status, second["metadata"]["resourceVersion"]) == (200, first["metadata"]["resourceVersion"])


async def test_a_patch_for_a_namesake_is_refused_and_names_the_uid(api: Api) -> None:
    await idle_job(api, "a")
    for change in (on(str(uuid.uuid4())), off(str(uuid.uuid4()))):
        status, published = await patch(api, "a", change)
        assert (status, published["reason"]) == (422, "Invalid")
        assert "metadata.uid" in [cause["field"] for cause in published["details"]["causes"]]


async def test_what_is_being_deleted_takes_no_new_finalizer(api: Api) -> None:
    uid = await idle_job(api, "a", THEIRS)
    await api.delete(f"{api.jobs}/a")
    status, published = await patch(api, "a", on(uid))
    assert (status, published["reason"]) == (422, "Invalid")
    cause = published["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldValueForbidden", "metadata.finalizers")
    assert cause["message"] == (
        "Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"jobcast.dev/outcome"}'
    )
    status, _ = await patch(api, "a", off(uid))
    assert status == 200, "what is not there may be taken off all the same"
    await patch(api, "a", {"metadata": {"$deleteFromPrimitiveList/finalizers": [THEIRS]}})
    await api.gone(f"{api.jobs}/a")


async def test_the_last_finalizer_of_what_is_being_deleted_takes_it_along(api: Api) -> None:
    uid = await idle_job(api, "a", OURS)
    await api.delete(f"{api.jobs}/a")
    async with api.recording(api.jobs) as recording:
        status, published = await patch(api, "a", off(uid))
        assert (status, published["metadata"].get("finalizers")) == (200, None)
        last = await recording.until(lambda event: event["type"] == "DELETED")
    assert last["object"]["metadata"]["finalizers"] == [OURS], "a watch shows it as it was before"
    status, published = await patch(api, "a", off(uid))
    assert (status, published["reason"]) == (404, "NotFound")


async def test_a_job_is_held_and_released_next_to_others_and_twice_is_safe(api: Api, ours: kube.Api) -> None:
    uid = await idle_job(api, "a", THEIRS)
    for _ in range(2):
        await ours.hold(api.namespace, "a", uid)
        assert sorted(await finalizers(api, "a")) == [THEIRS, OURS]
    for _ in range(2):
        await ours.release(api.namespace, "a", uid)
        assert await finalizers(api, "a") == [THEIRS]


async def test_there_is_nothing_to_hold_where_the_job_is_gone_or_another_or_going(api: Api, ours: kube.Api) -> None:
    await ours.hold(api.namespace, "a", str(uuid.uuid4()))
    uid = await idle_job(api, "a", THEIRS)
    await ours.hold(api.namespace, "a", str(uuid.uuid4()))
    await api.delete(f"{api.jobs}/a")
    await ours.hold(api.namespace, "a", uid)
    assert await finalizers(api, "a") == [THEIRS]
    await ours.release(api.namespace, "a", uid)
    assert await finalizers(api, "a") == [THEIRS]


async def test_a_release_lets_a_deleted_job_go_and_never_a_namesake_of_it(api: Api, ours: kube.Api) -> None:
    uid = await idle_job(api, "a")
    await ours.hold(api.namespace, "a", uid)
    await api.delete(f"{api.jobs}/a")
    assert await finalizers(api, "a") == [OURS]
    await ours.release(api.namespace, "a", uid)
    await api.gone(f"{api.jobs}/a")
    await ours.release(api.namespace, "a", uid)
    again = await idle_job(api, "a")
    await ours.hold(api.namespace, "a", again)
    await ours.release(api.namespace, "a", uid)
    assert await finalizers(api, "a") == [OURS]
