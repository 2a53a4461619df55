"""Lists: shape, pages, selectors, refusals."""

from __future__ import annotations

import gzip
import json

import aiohttp
import pytest

from tests.api import Api, is_over, make_job


async def names(api: Api, path: str, **query: str) -> list[str]:
    return [item["metadata"]["name"] for item in (await api.get(path, **query))["items"]]


async def managed(api: Api, *jobs: str, **labels: str) -> None:
    """Jobs that nobody runs."""
    for name in jobs:
        await api.create(make_job(name, managedBy="example.com/nobody", meta={"labels": labels}))


async def test_a_list_says_its_kind_and_its_items_do_not(api: Api) -> None:
    await managed(api, "a")
    listed = await api.get(api.jobs)
    assert (listed["kind"], listed["apiVersion"]) == ("JobList", "batch/v1")
    assert int(listed["metadata"]["resourceVersion"]) > 0
    assert "kind" not in listed["items"][0]
    assert "apiVersion" not in listed["items"][0]
    single = await api.get(f"{api.jobs}/a")
    assert (single["kind"], single["apiVersion"]) == ("Job", "batch/v1")


async def test_pages_are_of_one_snapshot(api: Api) -> None:
    await managed(api, "a", "b", "c", "d", "e")
    first = await api.get(api.jobs, limit="2")
    assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    await api.call("DELETE", f"{api.jobs}/c", params={"propagationPolicy": "Background"})
    await managed(api, "bb")
    second = await api.get(api.jobs, limit="2", **{"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in second["items"]] == ["c", "d"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    last = await api.get(api.jobs, limit="2", **{"continue": second["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in last["items"]] == ["e"]
    assert not last["metadata"].get("continue")


async def test_a_selected_page_does_not_say_how_many_remain(api: Api) -> None:
    await managed(api, "a", "b", "c", app="x")
    page = await api.get(api.jobs, limit="1", labelSelector="app=x")
    assert page["metadata"]["continue"]
    assert "remainingItemCount" not in page["metadata"]


async def test_label_selectors(api: Api) -> None:
    await managed(api, "a", color="red", size="big")
    await managed(api, "b", color="blue")
    await managed(api, "c")
    expected = {
        "color=red": ["a"],
        "color==red": ["a"],
        "color!=red": ["b", "c"],
        "color in (red,blue)": ["a", "b"],
        "color notin (red)": ["b", "c"],
        "color": ["a", "b"],
        "!color": ["c"],
        "color in (red, blue),size=big": ["a"],
        "": ["a", "b", "c"],
    }
    for selector, wanted in expected.items():
        assert await names(api, api.jobs, labelSelector=selector) == wanted, selector


async def test_field_selectors(api: Api) -> None:
    await managed(api, "a", "b")
    await api.create(make_job("done"))
    await api.pod_of("done", is_over)
    assert await names(api, api.jobs, fieldSelector="metadata.name=a") == ["a"]
    assert await names(api, api.jobs, fieldSelector="metadata.name!=a") == ["b", "done"]
    assert len(await names(api, api.pods, fieldSelector="status.phase=Succeeded")) == 1
    assert await names(api, api.pods, fieldSelector="status.phase=Running") == []
    everywhere = await names(api, "/apis/batch/v1/jobs", fieldSelector=f"metadata.namespace={api.namespace}")
    assert everywhere == ["a", "b", "done"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"labelSelector": "a===b"}, "unable to parse requirement: found '=', expected: identifier"),
        ({"fieldSelector": "foo=b"}, 'field label "foo" not supported for Job'),
    ],
)
async def test_a_selector_that_makes_no_sense_is_refused(api: Api, query: dict[str, str], message: str) -> None:
    status, published = await api.call("GET", api.jobs, params=query)
    assert (status, published["reason"], published["message"]) == (400, "BadRequest", message)


async def test_a_continue_token_that_makes_no_sense_is_refused(api: Api) -> None:
    status, published = await api.call("GET", api.jobs, params={"limit": "1", "continue": "abc"})
    assert (status, published["reason"]) == (400, "BadRequest")
    assert published["message"].startswith("invalid continue token: continue key is not valid")


async def test_a_namespace_that_is_not_there_lists_as_empty(api: Api) -> None:
    listed = await api.get("/apis/batch/v1/namespaces/no-such-namespace/jobs")
    assert listed["items"] == []


async def test_a_version_from_the_future_is_a_timeout(api: Api) -> None:
    status, body, headers = await api.raw("GET", api.jobs, params={"resourceVersion": "999999999"})
    published = json.loads(body)
    assert (status, published["reason"], headers["Retry-After"]) == (504, "Timeout", "1")
    assert published["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_a_large_list_is_compressed_for_those_who_can_read_it(api: Api) -> None:
    for name in ("a", "b", "c"):
        await api.create(make_job(name, managedBy="example.com/nobody", meta={"annotations": {"note": "x" * 60_000}}))
    async with aiohttp.ClientSession(
        connector=api.session.connector, connector_owner=False, headers=api.session.headers, auto_decompress=False
    ) as plain:
        async with plain.get(api.url + api.jobs, headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            listed = json.loads(gzip.decompress(await response.read()))
        async with plain.get(api.url + api.jobs, headers={"Accept-Encoding": "identity"}) as response:
            assert "Content-Encoding" not in response.headers
            assert len(json.loads(await response.read())["items"]) == len(listed["items"]) == 3


async def test_an_expired_continue_comes_with_a_token_to_go_on_inconsistently(dev: Api) -> None:
    await managed(dev, "a", "b", "c")
    first = await dev.get(dev.jobs, limit="1")
    assert dev.devcluster
    await managed(dev, "d")
    dev.devcluster.compact()
    query = {"limit": "5", "continue": first["metadata"]["continue"]}
    status, published = await dev.call("GET", dev.jobs, params=query)
    assert (status, published["reason"]) == (410, "Expired")
    again = await names(dev, dev.jobs, **{**query, "continue": published["metadata"]["continue"]})
    assert again == ["b", "c", "d"]
