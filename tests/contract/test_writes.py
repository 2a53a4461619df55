"""Writes: what is filled in, what is refused and in which words, and what becomes of dependents."""

from __future__ import annotations

import asyncio
import contextlib

from tests.api import MERGE, Api, Obj, condition, is_running, make_job

from .test_list import managed

FINISHED = "2026-01-01T00:00:00Z"


def true(type_: str) -> Obj:
    return {"type": type_, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": FINISHED}


async def gone(api: Api, path: str, name: str) -> None:
    """Wait until an object is deleted."""
    async with asyncio.timeout(60):
        while (await api.raw("GET", f"{path}/{name}"))[0] != 404:
            await asyncio.sleep(0.05)


async def test_a_new_job_is_filled_in(api: Api) -> None:
    job = await api.create(make_job("a", managedBy="example.com/nobody"))
    uid = job["metadata"]["uid"]
    assert job["metadata"]["generation"] == 1
    spec = job["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 6)
    assert (spec["completionMode"], spec["suspend"]) == ("NonIndexed", False)
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert spec["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "a",
        "controller-uid": uid,
        "job-name": "a",
    }
    assert job["status"] == {}


async def test_a_name_is_generated(api: Api) -> None:
    job = make_job("x", managedBy="example.com/nobody")
    job["metadata"] = {"generateName": "eval-"}
    name = (await api.create(job))["metadata"]["name"]
    assert name.startswith("eval-")
    assert len(name) == len("eval-") + 5


async def test_refusals_of_a_creation(api: Api) -> None:
    await managed(api, "a")
    status, published = await api.call("POST", api.jobs, json=make_job("a"))
    assert (status, published["reason"], published["message"]) == (
        409,
        "AlreadyExists",
        'jobs.batch "a" already exists',
    )
    nowhere = "/apis/batch/v1/namespaces/no-such-namespace/jobs"
    status, published = await api.call("POST", nowhere, json=make_job("a"))
    assert (status, published["message"]) == (404, 'namespaces "no-such-namespace" not found')
    status, published = await api.call("POST", api.jobs, json=make_job("a", meta={"namespace": "other"}))
    assert status == 400
    assert (
        published["message"] == "the namespace of the provided object does not match the namespace sent on the request"
    )
    status, published = await api.call("POST", api.jobs, json=make_job("b", pod={"restartPolicy": "Always"}))
    assert (status, published["reason"]) == (422, "Invalid")
    assert published["details"]["causes"][0]["field"] == "spec.template.spec.restartPolicy"


async def test_what_is_not_there_is_named(api: Api) -> None:
    status, published = await api.call("GET", f"{api.jobs}/nope")
    assert (status, published["kind"], published["status"], published["reason"]) == (
        404,
        "Status",
        "Failure",
        "NotFound",
    )
    assert published["message"] == 'jobs.batch "nope" not found'
    assert published["details"] == {"name": "nope", "group": "batch", "kind": "jobs"}


async def test_a_stale_version_is_a_conflict(api: Api) -> None:
    job = await api.create(make_job("a", managedBy="example.com/nobody"))
    await api.patch(f"{api.jobs}/a", {"metadata": {"labels": {"x": "1"}}})
    status, published = await api.call("PUT", f"{api.jobs}/a", json=job)
    assert (status, published["reason"]) == (409, "Conflict")
    assert published["message"].startswith(
        'Operation cannot be fulfilled on jobs.batch "a": the object has been modified'
    )
    stale = {"metadata": {"resourceVersion": job["metadata"]["resourceVersion"], "labels": {"x": "2"}}}
    status, _ = await api.call("PATCH", f"{api.jobs}/a", json=stale, headers={"Content-Type": MERGE})
    assert status == 409


async def test_a_put_replaces_and_raises_the_generation_only_for_the_spec(api: Api) -> None:
    job = await api.create(make_job("a", managedBy="example.com/nobody"))
    job["metadata"]["labels"] = {"new": "label"}
    status, job = await api.call("PUT", f"{api.jobs}/a", json=job)
    assert (status, job["metadata"]["generation"]) == (200, 1)
    job["spec"]["parallelism"] = 2
    status, job = await api.call("PUT", f"{api.jobs}/a", json=job)
    assert (status, job["metadata"]["generation"]) == (200, 2)


async def test_a_job_without_labels_gets_its_templates(api: Api) -> None:
    job = make_job("a", managedBy="example.com/nobody")
    job["spec"]["template"]["metadata"] = {"labels": {"app": "evaluation"}}
    job = await api.create(job)
    assert job["metadata"]["labels"]["app"] == "evaluation"
    assert job["metadata"]["labels"]["job-name"] == "a"
    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"]
    job = await api.patch(f"{api.jobs}/a", {"metadata": {"labels": None}})
    assert job["metadata"]["labels"]["job-name"] == "a", "and gets them again"
    other = await api.create(make_job("b", managedBy="example.com/nobody", meta={"labels": {"own": "label"}}))
    assert other["metadata"]["labels"] == {"own": "label"}


async def test_metadata_that_breaks_the_rules_is_refused(api: Api) -> None:
    meta = {"labels": {"ok": "-x"}, "annotations": {"a~b/c": "1"}, "finalizers": ["unqualified"]}
    status, published = await api.call("POST", api.jobs, json=make_job("x", meta=meta))
    assert (status, published["reason"]) == (422, "Invalid")
    fields = [cause["field"] for cause in published["details"]["causes"]]
    assert fields == ["metadata.labels", "metadata.annotations", "metadata.finalizers[0]"]
    assert published["details"]["causes"][0]["message"].startswith(
        'Invalid value: "-x": a valid label must be an empty'
    )
    status, published = await api.call("POST", api.jobs, json=make_job("x" * 64))
    assert (status, published["details"]["causes"][0]["field"]) == (422, "spec.template.labels")


async def test_a_template_is_immutable(api: Api) -> None:
    await managed(api, "a")
    change = {"spec": {"template": {"spec": {"containers": [{"name": "x", "image": "y"}]}}}}
    status, published = await api.call("PATCH", f"{api.jobs}/a", json=change, headers={"Content-Type": MERGE})
    assert status == 422
    assert published["details"]["causes"][0]["field"] == "spec.template"
    assert published["message"].endswith("field is immutable")


async def test_json_patch(api: Api) -> None:
    await managed(api, "a", color="red")
    kind = {"Content-Type": "application/json-patch+json"}
    change = [{"op": "test", "path": "/metadata/labels/color", "value": "red"}]
    change += [{"op": "replace", "path": "/metadata/labels/color", "value": "blue"}]
    change += [{"op": "add", "path": "/metadata/annotations", "value": {"example.com/a": "1"}}]
    change += [{"op": "replace", "path": "/metadata/annotations/example.com~1a", "value": "2"}]
    status, job = await api.call("PATCH", f"{api.jobs}/a", json=change, headers=kind)
    assert (status, job["metadata"]["labels"]) == (200, {"color": "blue"})
    status, published = await api.call("PATCH", f"{api.jobs}/a", json=change, headers=kind)
    assert (status, published["message"]) == (422, "the server rejected our request due to an error in our request")


async def test_a_strategic_patch_merges_conditions_by_their_type(api: Api) -> None:
    await managed(api, "a")
    kind = {"Content-Type": "application/strategic-merge-patch+json"}
    status_path = f"{api.jobs}/a/status"
    first = {"status": {"startTime": FINISHED, "conditions": [true("Suspended")]}}
    await api.call("PATCH", status_path, json=first, headers=kind)
    _, job = await api.call("PATCH", status_path, json={"status": {"ready": 0}}, headers=kind)
    assert [c["type"] for c in job["status"]["conditions"]] == ["Suspended"]


async def test_the_status_of_a_foreign_job_is_its_managers_to_write(api: Api) -> None:
    await managed(api, "a")
    path = f"{api.jobs}/a/status"
    await api.patch(path, {"status": {"active": 1, "ready": 1, "startTime": FINISHED}})
    ended = [true("SuccessCriteriaMet"), true("Complete")]
    done = {"conditions": ended, "completionTime": FINISHED, "active": 0, "ready": 0, "succeeded": 1}
    job = await api.patch(path, {"status": done})
    assert "active" not in job["status"]
    assert job["status"]["succeeded"] == 1
    untouched = await api.patch(path, {"spec": {"parallelism": 7}, "metadata": {"labels": {"via": "status"}}})
    assert untouched["spec"]["parallelism"] == 1
    assert untouched["metadata"]["labels"]["via"] == "status", "labels do come through, and finalizers"


async def test_a_status_that_contradicts_itself_is_refused(api: Api) -> None:
    await managed(api, "a")
    path = f"{api.jobs}/a/status"
    await api.patch(path, {"status": {"active": 1, "startTime": FINISHED}})

    async def refused(status: Obj) -> list[str]:
        code, published = await api.call("PATCH", path, json={"status": status}, headers={"Content-Type": MERGE})
        assert code == 422, published
        return [cause["message"] for cause in published["details"]["causes"]]

    assert await refused({"conditions": [true("Complete")], "active": 0}) == [
        "Required value: completionTime is required for Complete jobs",
        "Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    ]
    assert await refused({"conditions": [true("FailureTarget"), true("Failed")]}) == [
        "Invalid value: 1: active>0 is invalid for finished job"
    ]
    assert await refused({"ready": 2}) == ["Invalid value: 2: cannot set more ready pods than active"]
    await api.patch(path, {"status": {"conditions": [true("FailureTarget"), true("Failed")], "active": 0}})
    assert await refused({"conditions": [true("FailureTarget")]}) == [
        "Invalid value: cannot disable the terminal Failed=True condition"
    ]


async def test_a_precondition_protects_from_deleting_a_namesake(api: Api) -> None:
    job = await api.create(make_job("a", managedBy="example.com/nobody"))
    status, published = await api.call("DELETE", f"{api.jobs}/a", json={"preconditions": {"uid": "other"}})
    assert (status, published["reason"]) == (409, "Conflict")
    body = {"preconditions": {"uid": job["metadata"]["uid"]}, "propagationPolicy": "Background"}
    status, published = await api.call("DELETE", f"{api.jobs}/a", json=body)
    assert (status, published["kind"], published["status"]) == (200, "Status", "Success")
    assert published["details"]["uid"] == job["metadata"]["uid"]


async def test_a_finalizer_holds_a_deleted_job(api: Api) -> None:
    await api.create(make_job("a", managedBy="example.com/nobody", meta={"finalizers": ["example.com/hold"]}))
    async with api.recording(api.jobs) as seen:
        status, held = await api.call("DELETE", f"{api.jobs}/a", params={"propagationPolicy": "Background"})
        assert (status, held["kind"]) == (200, "Job")
        assert held["metadata"]["deletionTimestamp"]
        assert held["metadata"]["deletionGracePeriodSeconds"] == 0
        assert held["metadata"]["generation"] == 2
        await api.patch(f"{api.jobs}/a", {"metadata": {"finalizers": None}})
        last = await seen.until(lambda event: event["type"] == "DELETED")
    assert [event["type"] for event in seen.events] == ["MODIFIED", "DELETED"]
    assert last["object"]["metadata"]["deletionTimestamp"]


async def test_background_deletion_takes_the_pods_after_the_job(api: Api) -> None:
    await api.create(make_job("a", "sleep 60"))
    pod = (await api.pod_of("a", is_running))["metadata"]["name"]
    async with api.recording(api.pods) as pods:
        status, published = await api.call("DELETE", f"{api.jobs}/a", params={"propagationPolicy": "Background"})
        assert (status, published["status"]) == (200, "Success")
        assert (await api.raw("GET", f"{api.jobs}/a"))[0] == 404
        await pods.until(lambda event: event["type"] == "DELETED" and event["object"]["metadata"]["name"] == pod)


async def test_foreground_deletion_takes_the_job_after_its_pods(api: Api) -> None:
    await api.create(make_job("a", "sleep 60"))
    await api.pod_of("a", is_running)
    async with api.recording(api.jobs) as jobs, api.recording(api.pods) as pods:
        status, published = await api.call("DELETE", f"{api.jobs}/a", params={"propagationPolicy": "Foreground"})
        assert (status, published["metadata"]["finalizers"]) == (200, ["foregroundDeletion"])
        last_job = await jobs.until(lambda event: event["type"] == "DELETED")
        last_pod = await pods.until(lambda event: event["type"] == "DELETED")
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in (last_pod, last_job)]
    assert versions == sorted(versions)
    assert not last_job["object"]["status"].get("conditions"), "it never ended: it was taken away"


async def test_by_default_and_by_orphan_the_pods_stay(api: Api) -> None:
    for name, query in (("asked", {"propagationPolicy": "Orphan"}), ("unasked", {})):
        await api.create(make_job(name, "sleep 60"))
        pod = (await api.pod_of(name, is_running))["metadata"]["name"]
        await api.call("DELETE", f"{api.jobs}/{name}", params=query)
        await gone(api, api.jobs, name)
        left = await api.get(f"{api.pods}/{pod}")
        assert "ownerReferences" not in left["metadata"]
        assert "finalizers" not in left["metadata"]
        assert is_running(left)
        await api.call("DELETE", f"{api.pods}/{pod}", params={"gracePeriodSeconds": "0"})


async def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    await managed(api, "a", "b", kill="yes")
    await managed(api, "c")
    query = {"labelSelector": "kill=yes", "propagationPolicy": "Background"}
    status, published = await api.call("DELETE", api.jobs, params=query)
    assert (status, published["kind"]) == (200, "JobList")
    await gone(api, api.jobs, "a")
    await gone(api, api.jobs, "b")
    assert (await api.raw("GET", f"{api.jobs}/c"))[0] == 200


async def test_a_namespace_goes_with_all_that_is_in_it(api: Api) -> None:
    await api.create(make_job("a", "sleep 60"))
    await api.pod_of("a", is_running)
    async with contextlib.AsyncExitStack() as stack:
        jobs = await stack.enter_async_context(api.recording(api.jobs))
        status, published = await api.call("DELETE", f"/api/v1/namespaces/{api.namespace}")
        assert (status, published["status"]["phase"]) == (200, "Terminating")
        status, published = await api.call("POST", api.jobs, json=make_job("late"))
        assert (status, published["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
        await jobs.until(lambda event: event["type"] == "DELETED")
    await gone(api, "/api/v1/namespaces", api.namespace)


async def test_of_a_namespace_the_pods_go_first_and_their_jobs_see_it(api: Api) -> None:
    await api.create(make_job("last", "sleep 60", backoffLimit=0))
    await api.create(make_job("again", "sleep 60", backoffLimit=6))
    for name in ("last", "again"):
        await api.pod_of(name, is_running)
    async with api.recording(api.jobs) as jobs:
        await api.call("DELETE", f"/api/v1/namespaces/{api.namespace}")
        went = [
            (await jobs.until(lambda e, n=name: e["type"] == "DELETED" and e["object"]["metadata"]["name"] == n))[
                "object"
            ]
            for name in ("last", "again")
        ]
    assert [bool(condition(job, "Failed")) for job in went] == [True, False]
    assert [job["status"]["failed"] for job in went] == [1, 1]


async def test_an_access_review_is_answered(api: Api) -> None:
    asked = {"spec": {"resourceAttributes": {"verb": "list", "group": "batch", "resource": "jobs"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    status, review = await api.call("POST", path, json=asked)
    assert (status, review["status"]["allowed"]) == (201, True)
