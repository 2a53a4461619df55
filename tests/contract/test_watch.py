"""Watches: from a version, without gap or double, in and out of a selection, bookmarks, 410."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.api import Api, Obj, make_job

from .test_list import managed


def published(events: list[Obj]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def take(api: Api, path: str, count: int, **query: str) -> list[Obj]:
    """The first so many events of a watch."""
    events: list[Obj] = []
    async with asyncio.timeout(60), contextlib.aclosing(api.watch(path, **query)) as lines:
        async for event in lines:
            events.append(event)
            if len(events) == count:
                return events
    raise AssertionError(f"the watch ended after {published(events)}")


async def test_without_a_version_a_watch_begins_with_what_is_there(api: Api) -> None:
    await managed(api, "a", "b")
    events = await take(api, api.jobs, 2)
    assert sorted(published(events)) == [("ADDED", "a"), ("ADDED", "b")]
    assert all(event["object"]["kind"] == "Job" for event in events)
    assert all(event["object"]["apiVersion"] == "batch/v1" for event in events)


async def test_from_the_version_of_a_list_a_watch_publishes_what_came_later(api: Api) -> None:
    await managed(api, "before")
    version = (await api.get(api.jobs))["metadata"]["resourceVersion"]
    await managed(api, "after")
    await api.patch(f"{api.jobs}/before", {"metadata": {"labels": {"a": "b"}}})
    events = await take(api, api.jobs, 2, resourceVersion=version)
    assert published(events) == [("ADDED", "after"), ("MODIFIED", "before")]


async def test_a_watch_resumes_at_any_event_without_gap_or_double(api: Api) -> None:
    version = (await api.get(api.jobs))["metadata"]["resourceVersion"]
    await managed(api, "a", "b", "c", "d")
    await api.call("DELETE", f"{api.jobs}/b", params={"propagationPolicy": "Background"})
    whole = await take(api, api.jobs, 5, resourceVersion=version)
    for place, event in enumerate(whole[:-1]):
        seen = event["object"]["metadata"]["resourceVersion"]
        rest = await take(api, api.jobs, 4 - place, resourceVersion=seen)
        assert rest == whole[place + 1 :]


async def test_versions_only_grow(api: Api) -> None:
    version = (await api.get(api.jobs))["metadata"]["resourceVersion"]
    await managed(api, "a", "b", "c")
    events = await take(api, api.jobs, 3, resourceVersion=version)
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert int(version) < versions[0] < versions[1] < versions[2]


async def test_a_deletion_carries_the_last_state_and_a_version_of_its_own(api: Api) -> None:
    created = await api.create(make_job("a", managedBy="example.com/nobody", meta={"labels": {"x": "y"}}))
    version = created["metadata"]["resourceVersion"]
    await api.call("DELETE", f"{api.jobs}/a", params={"propagationPolicy": "Background"})
    (event,) = await take(api, api.jobs, 1, resourceVersion=version)
    assert event["type"] == "DELETED"
    assert event["object"]["metadata"]["labels"] == {"x": "y"}
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)


async def test_objects_enter_and_leave_a_selection(api: Api) -> None:
    await managed(api, "a", "other")
    version = (await api.get(api.jobs))["metadata"]["resourceVersion"]
    path = f"{api.jobs}/a"
    await api.patch(path, {"metadata": {"labels": {"app": "x"}}})
    await api.patch(path, {"metadata": {"labels": {"note": "1"}}})
    left = await api.patch(path, {"metadata": {"labels": {"app": "y"}}})
    await api.patch(path, {"metadata": {"labels": {"note": "2"}}})
    await api.patch(path, {"metadata": {"labels": {"app": "x"}}})
    events = await take(api, api.jobs, 4, resourceVersion=version, labelSelector="app=x")
    assert published(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a")]
    gone = events[2]["object"]["metadata"]
    assert gone["labels"]["app"] == "x", "what leaves is shown as it last was inside"
    assert gone["resourceVersion"] == left["metadata"]["resourceVersion"]


async def test_one_object_is_watched_by_its_name(api: Api) -> None:
    await managed(api, "a", "b")
    version = (await api.get(api.jobs))["metadata"]["resourceVersion"]
    for name in ("a", "b"):
        await api.patch(f"{api.jobs}/{name}", {"metadata": {"labels": {"n": "1"}}})
    (event,) = await take(api, api.jobs, 1, resourceVersion=version, fieldSelector="metadata.name=b")
    assert published([event]) == [("MODIFIED", "b")]


async def test_all_namespaces_are_watched_at_once(api: Api) -> None:
    version = (await api.get(api.jobs))["metadata"]["resourceVersion"]
    await managed(api, "a", run=api.namespace)
    selector = f"run={api.namespace}"
    (event,) = await take(api, "/apis/batch/v1/jobs", 1, resourceVersion=version, labelSelector=selector)
    assert event["object"]["metadata"]["namespace"] == api.namespace


async def test_a_write_that_changes_nothing_is_no_event(api: Api) -> None:
    await managed(api, "a", some="label")
    version = (await api.get(api.jobs))["metadata"]["resourceVersion"]
    same = await api.patch(f"{api.jobs}/a", {"metadata": {"labels": {}}})
    assert int(same["metadata"]["resourceVersion"]) <= int(version)
    await managed(api, "b")
    assert published(await take(api, api.jobs, 1, resourceVersion=version)) == [("ADDED", "b")]


async def test_the_server_ends_a_watch_when_its_time_is_up(api: Api) -> None:
    begun = time.monotonic()
    events = [event async for event in api.watch(api.jobs, timeoutSeconds="1")]
    assert events == []
    assert 0.9 < time.monotonic() - begun < 30


async def test_the_initial_events_end_with_a_bookmark(api: Api) -> None:
    await managed(api, "a")
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    first, mark = await take(api, api.jobs, 2, **query)
    assert published([first]) == [("ADDED", "a")]
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["kind"] == "Job"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["object"]["metadata"]["resourceVersion"]) > 0


async def test_initial_events_are_asked_for_in_full_or_not_at_all(api: Api) -> None:
    status, told_off = await api.call("GET", api.jobs, params={"watch": "1", "sendInitialEvents": "true"})
    assert (status, told_off["reason"]) == (422, "Invalid")
    assert told_off["message"] == (
        'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting '
        "resourceVersionMatch to NotOlderThan"
    )
    assert told_off["details"]["kind"] == "ListOptions"


async def test_a_bookmark_moves_the_watch_on_before_it_ends(api: Api) -> None:
    await managed(api, "a")
    version = (await api.get(api.jobs))["metadata"]["resourceVersion"]
    # Writes elsewhere make the collection's own last version old.
    await api.create({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "4"}
    events = [event async for event in api.watch(api.jobs, **query)]
    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert int(events[-1]["object"]["metadata"]["resourceVersion"]) >= int(version)
    assert "name" not in events[-1]["object"]["metadata"]


async def test_a_version_that_is_forgotten_is_an_error_event_behind_a_200(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/events"
    if api.devcluster:
        await managed(api, "a")
        api.devcluster.compact()
    else:
        status, _ = await api.call("GET", path, params={"resourceVersion": "1", "resourceVersionMatch": "Exact"})
        if status == 200:
            pytest.skip("this cluster is too young to have forgotten anything")
    async with asyncio.timeout(60):
        events = [event async for event in api.watch(path, resourceVersion="1", timeoutSeconds="5")]
    (event,) = events
    assert event["type"] == "ERROR"
    status = event["object"]
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", 410)
    assert status["reason"] == "Expired"


async def test_a_list_at_a_forgotten_version_is_a_410_in_the_status_line(api: Api) -> None:
    if api.devcluster:
        await managed(api, "a")
        api.devcluster.compact()
    status, refused = await api.call("GET", api.jobs, params={"resourceVersion": "1", "resourceVersionMatch": "Exact"})
    if status == 200 and not api.devcluster:
        pytest.skip("this cluster is too young to have forgotten anything")
    assert (status, refused["reason"]) == (410, "Expired")
    assert refused["message"] == "The resourceVersion for the provided list is too old."


async def test_a_version_from_the_future_is_met_with_silence(api: Api) -> None:
    await managed(api, "a")
    query = {"resourceVersion": "999999999", "timeoutSeconds": "2"}
    assert [event async for event in api.watch(api.jobs, **query)] == []


@pytest.mark.parametrize("yes", ["1", "true", "True", ""])
async def test_clients_have_their_own_words_for_yes(api: Api, yes: str) -> None:
    await managed(api, "a")
    assert published(await take(api, api.jobs, 1, watch=yes)) == [("ADDED", "a")]


async def test_a_version_that_is_no_number_is_refused(api: Api) -> None:
    status, refused = await api.call("GET", api.jobs, params={"watch": "1", "resourceVersion": "abc"})
    assert status == 500
    assert "strconv.ParseUint" in refused["message"]


async def test_bookmarks_come_at_their_interval(dev: Api) -> None:
    marks = await take(dev, dev.jobs, 3, allowWatchBookmarks="true")
    assert {mark["type"] for mark in marks} == {"BOOKMARK"}
