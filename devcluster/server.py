"""HTTP: from a request to the room that answers it, and back."""

from __future__ import annotations

import gzip
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from devcluster import lists, protobuf, tables
from devcluster.discovery import documents
from devcluster.errors import ApiError, Obj, bad_request, no_such_path
from devcluster.faults import Fault, Faults
from devcluster.logs import Logs
from devcluster.query import flag
from devcluster.registry import Registry
from devcluster.scheme import JOBS, NODES, Resource, Target, resolve
from devcluster.store import encoder
from devcluster.stream import Severed, Stream
from devcluster.watch import Watch, error_line

USER = "devcluster"
REVIEW = Resource(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "selfsubjectaccessreview",
    "SelfSubjectAccessReview",
    False,
)
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
GZIP_FROM = 128 * 1024
"""Bytes; below, a real server does not bother to compress."""

JSON = {"Content-Type": "application/json"}
_PROBES = ("/livez", "/readyz", "/healthz")


class Server:
    """The request handler; `cluster.DevCluster` owns the socket it listens on."""

    def __init__(self, registry: Registry, logs: Logs, faults: Faults, bookmark_seconds: float) -> None:
        self._registry = registry
        self._store = registry.store
        self._logs = logs
        self._faults = faults
        self._bookmark_seconds = bookmark_seconds
        self._documents = documents("127.0.0.1")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._route(request)
        except ApiError as error:
            return _refusal(error)
        except Severed:
            return web.Response()  # the client is gone

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = unquote(request.path)
        if path.startswith(_PROBES):
            return web.Response(text="ok")
        if path.rstrip("/") in self._documents:
            return _json(self._documents[path.rstrip("/")])
        if path == REVIEWS and request.method == "POST":
            place = Target(REVIEW, "", "", "")
            fault = self._faults.take("create", place, _token(request))
            if fault and fault.kind == "status":
                return _spoiled(fault, "create", place)
            return _json(self._review(await _body(request)), 201)
        if path.startswith("/devcluster/"):
            return await self._control(request, path)
        target = resolve(path)
        if target is None:
            raise no_such_path()
        return await self._serve(request, target)

    async def _serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = dict(request.query)
        verb = _verb(request.method, target, query)
        if "dryRun" in query:
            raise bad_request("devcluster does not model dryRun")
        fault = self._faults.take(verb, target, _token(request))
        if fault and fault.kind == "status":
            return _spoiled(fault, verb, target)
        stream = Stream(request, self._faults, verb, target, fault)
        try:
            if fault and fault.kind == "empty":
                await stream.open(200, {**JSON, "Content-Length": "0"})
                return await stream.close()
            if fault and fault.kind == "lost":
                lost = f"unable to retrieve container logs for containerd://{'0' * 64}"
                return web.Response(text=fault.message or lost)
            if verb == "watch":
                return await self._watch(stream, target, query)
            if target.subresource == "log":
                return await self._logs.serve(stream, target, query)
            status, obj = await self._answer(request, verb, target, query)
            data, headers = self._encoded(request, target, obj)
            if fault is None:
                return web.Response(body=data, status=status, headers={**headers, "Cache-Control": "no-cache, private"})
            await stream.open(status, {**headers, "Content-Length": str(len(data))})
            await stream.write(data)
            return await stream.close()
        finally:
            stream.forget()

    async def _watch(self, stream: Stream, target: Target, query: dict[str, str]) -> web.StreamResponse:
        watch = Watch(self._store, target, query, self._bookmark_seconds)
        await stream.open(200, JSON)
        try:
            await watch.run(stream)
        except ApiError as error:
            # A watch that cannot begin says so inside the stream: the 200 is already out.
            await stream.write_event(error_line(error))
        return await stream.close()

    async def _answer(self, request: web.Request, verb: str, target: Target, query: dict[str, str]) -> tuple[int, Obj]:
        resource, namespace, name = target.resource, target.namespace, target.name
        match verb:
            case "list":
                return 200, lists.list_objects(self._store, target, query)
            case "get":
                return 200, self._typed(target, self._registry.get(resource, namespace, name))
            case "create" if target.subresource == "eviction":
                self._registry.evict(namespace, name)
                return 201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
            case "create":
                obj = _of_kind(target, await _body(request))
                return 201, self._typed(target, self._registry.create(resource, namespace, obj))
            case "update":
                obj = _of_kind(target, await _body(request))
                updated = self._registry.update(resource, namespace, name, obj, target.subresource)
                return 200, self._typed(target, updated)
            case "patch":
                change = await _body(request)
                kind = request.content_type
                patched = self._registry.patch(resource, namespace, name, kind, change, target.subresource)
                return 200, self._typed(target, patched)
            case "delete":
                return 200, self._delete(target, {**_delete_query(query), **await _body(request, optional=True)})
            case "deletecollection":
                options = {**_delete_query(query), **await _body(request, optional=True)}
                listed = lists.list_objects(self._store, target, query)
                for obj in listed["items"]:
                    self._registry.delete(
                        resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"], options
                    )
                return 200, listed
        raise ApiError(405, "the server does not allow this method on the requested resource", details={})

    def _typed(self, target: Target, obj: Obj) -> Obj:
        return {"kind": target.resource.kind, "apiVersion": target.resource.api_version, **obj}

    def _delete(self, target: Target, options: Obj) -> Obj:
        resource = target.resource
        obj, gone = self._registry.delete(resource, target.namespace, target.name, options)
        if not gone or resource not in (JOBS, NODES):
            return self._typed(target, obj)
        group = {"group": resource.group} if resource.group else {}
        details = {"name": target.name, **group, "kind": resource.plural, "uid": obj["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _encoded(self, request: web.Request, target: Target, obj: Obj) -> tuple[bytes, dict[str, str]]:
        if "as=Table" in request.headers.get("Accept", "") and obj["kind"] != "Status":
            obj = tables.table(target.resource, obj)
        data = encoder.encode(obj) + b"\n"
        if len(data) >= GZIP_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
            return gzip.compress(data, 4), {**JSON, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return data, JSON

    def _review(self, review: Obj) -> Obj:
        """RBAC here is: everything is allowed, unless a waiting fault forbids exactly this."""
        asked = review.get("spec", {}).get("resourceAttributes") or {}
        target = resolve(f"/apis/{asked.get('group')}/v1/{asked.get('resource')}") if asked.get("group") else None
        target = target or resolve(f"/api/v1/{asked.get('resource')}")
        allowed = True
        if target is not None:
            subresource = asked.get("subresource", "")
            place = Target(target.resource, asked.get("namespace", ""), asked.get("name", ""), subresource)
            allowed = not any(
                fault.kind == "status" and fault.code == 403 and fault.matches(asked.get("verb", ""), place)
                for fault in self._faults.waiting()
            )
        return {**review, "metadata": {}, "status": {"allowed": allowed}}

    async def _control(self, request: web.Request, path: str) -> web.StreamResponse:
        """What another process may do to this one; see `faults`."""
        match request.method, path:
            case "POST", "/devcluster/faults":
                asked = await _body(request)
                now = asked.pop("now", False)
                try:
                    fault = msgspec.convert(asked, Fault)
                except msgspec.ValidationError as error:
                    raise bad_request(str(error)) from error
                if now:
                    return _json({"struck": self._faults.strike(fault)})
                return _json(msgspec.to_builtins(self._faults.add(fault)), 201)
            case "GET", "/devcluster/faults":
                return _json({"faults": msgspec.to_builtins(self._faults.waiting())})
            case "DELETE", "/devcluster/faults":
                self._faults.clear()
                return _json({"faults": []})
            case "POST", "/devcluster/compact":
                self._store.compact()
                return _json({"resourceVersion": str(self._store.version)})
        raise no_such_path()


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _spoiled(fault: Fault, verb: str, target: Target) -> web.Response:
    """The answer of a `status` fault."""
    if (text := fault.text) is None:
        return _refusal(fault.error(verb, target, USER))
    headers = {"Retry-After": str(fault.retry_after or 1)} if fault.retry_after or fault.code == 429 else {}
    return web.Response(status=fault.code, text=text, headers=headers)


def _verb(method: str, target: Target, query: dict[str, str]) -> str:
    if method == "GET":
        if target.subresource:
            return "get"
        if flag(query, "watch"):
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method, method.lower())


async def _body(request: web.Request, *, optional: bool = False) -> Any:
    raw = await request.read()
    if optional and not raw:
        return {}
    if "protobuf" in request.content_type:
        return protobuf.decode(raw)
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        shown = raw[:200].decode(errors="replace")
        raise bad_request(f"couldn't get version/kind; json parse error: {error} ({shown})") from error


def _of_kind(target: Target, obj: Any) -> Obj:
    kind = obj.get("kind", target.resource.kind) if isinstance(obj, dict) else None
    if kind != target.resource.kind:
        message = f"the object provided is unrecognized (must be of type {target.resource.kind})"
        raise bad_request(message)
    typed: Obj = obj
    return typed


def _delete_query(query: dict[str, str]) -> Obj:
    options: Obj = {}
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    if "gracePeriodSeconds" in query:
        options["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
    return options


def _json(obj: Any, status: int = 200) -> web.Response:
    return web.Response(body=encoder.encode(obj) + b"\n", status=status, headers=JSON)


def _refusal(error: ApiError) -> web.Response:
    response = _json(error.body, error.code)
    response.headers["Cache-Control"] = "no-cache, private"
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
