"""What the server says about itself: versions, groups, resources, and just enough OpenAPI for kubectl."""

from __future__ import annotations

from devcluster.errors import Obj
from devcluster.scheme import JOBS, RESOURCES, Resource

VERSION: Obj = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.4+devcluster",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "",
}

_ALL = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_REVIEWS = "authorization.k8s.io"


def _rows(resource: Resource) -> list[Obj]:
    row: Obj = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _ALL,
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    rows = [row]
    sub = {"singularName": "", "namespaced": resource.namespaced, "kind": resource.kind}
    if resource.has_status:
        rows.append({"name": f"{resource.plural}/status", **sub, "verbs": ["get", "patch", "update"]})
    if resource.plural == "pods":
        rows.append({"name": "pods/log", **sub, "verbs": ["get"]})
        eviction = {"group": "policy", "version": "v1", "kind": "Eviction"}
        rows.append({"name": "pods/eviction", **sub, **eviction, "verbs": ["create"]})
    return rows


def _resources(group_version: str, rows: list[Obj]) -> Obj:
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows}


def _group(name: str) -> Obj:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _openapi(resources: list[Resource]) -> Obj:
    """Only what kubectl looks for: that a patch takes `fieldValidation`, so that validating is left to the server."""
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    paths: Obj = {}
    for resource in resources:
        scope = "namespaces/{namespace}/" if resource.namespaced else ""
        gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        operation = {"parameters": [parameter], "responses": {}, "x-kubernetes-group-version-kind": gvk}
        paths[f"{resource.prefix}/{scope}{resource.plural}/{{name}}"] = {
            "patch": {**operation, "x-kubernetes-action": "patch"}
        }
    return {"openapi": "3.0.0", "info": {"title": "devcluster", "version": "v1"}, "paths": paths}


def documents(host: str) -> dict[str, Obj]:
    """Path to document."""
    core = [resource for resource in RESOURCES if not resource.group]
    review = {
        "name": "selfsubjectaccessreviews",
        "singularName": "selfsubjectaccessreview",
        "namespaced": False,
        "kind": "SelfSubjectAccessReview",
        "verbs": ["create"],
    }
    return {
        "/version": VERSION,
        "/api": {
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
        },
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group("batch"), _group(_REVIEWS)]},
        "/api/v1": _resources("v1", [row for resource in core for row in _rows(resource)]),
        "/apis/batch": {"kind": "APIGroup", "apiVersion": "v1", **_group("batch")},
        "/apis/batch/v1": _resources("batch/v1", _rows(JOBS)),
        f"/apis/{_REVIEWS}": {"kind": "APIGroup", "apiVersion": "v1", **_group(_REVIEWS)},
        f"/apis/{_REVIEWS}/v1": _resources(f"{_REVIEWS}/v1", [review]),
        "/openapi/v3": {
            "paths": {
                "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"},
                "apis/batch/v1": {"serverRelativeURL": "/openapi/v3/apis/batch/v1"},
            }
        },
        "/openapi/v3/api/v1": _openapi(core),
        "/openapi/v3/apis/batch/v1": _openapi([JOBS]),
    }
