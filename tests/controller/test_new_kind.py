"""A kind that Jobcast does not know, a made-up custom resource: one file like this one's upper half makes it readable."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from controller.reflector import Reflector, Source
from jobcast.jobs.decode import Reading, WireMeta
from jobcast.kube import Access, Api, Change, Permission, Resource, missing
from tests.conftest import eventually


class Widget(msgspec.Struct, frozen=True):
    """What is kept."""

    name: str
    size: int


class _Spec(msgspec.Struct):
    size: int = 0


class _WireWidget(msgspec.Struct):
    metadata: WireMeta
    spec: _Spec = msgspec.field(default_factory=_Spec)


def _flatten(_reading: Reading, wire: _WireWidget) -> Widget:
    if not wire.metadata.name:
        raise ValueError("it has no name")
    return Widget(wire.metadata.name, wire.spec.size)


WIDGETS: Resource[Widget] = Resource("example.dev", "v1alpha1", "widgets", _WireWidget, _flatten)


class Widgets:
    """The mirror's store."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._listed: set[str] = set()

    def begin(self) -> None:
        self._listed = set()

    async def page(self, items: list[Widget]) -> None:
        self._listed |= {widget.name for widget in items}
        self.sizes |= {widget.name: widget.size for widget in items}

    def end(self, version: str) -> None:
        self.sizes = {name: size for name, size in self.sizes.items() if name in self._listed}

    def change(self, change: Change[Widget]) -> None:
        assert change.object is not None
        if change.type == "DELETED":
            self.sizes.pop(change.object.name, None)
        else:
            self.sizes[change.object.name] = change.object.size


def widget(name: str, size: object, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "spec": {"size": size}}


class Server:
    """An API server that serves widgets, and nothing else."""

    PATH = "/apis/example.dev/v1alpha1/namespaces/evals/widgets"

    def __init__(self) -> None:
        self.items = [widget("a", 1, 5), widget("odd", "large", 6), widget("b", 2, 7)]
        self.changes: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.refused = ""
        """The verb that is forbidden."""
        self.reviewed: list[dict[str, Any]] = []
        self.watched_from = ""

    async def list_or_watch(self, request: web.Request) -> web.StreamResponse:
        verb = "watch" if "watch" in request.query else "list"
        if verb == self.refused:
            message = f'widgets.example.dev is forbidden: User "x" cannot {verb} resource "widgets"'
            return web.json_response({"kind": "Status", "code": 403, "message": message}, status=403)
        if verb == "list":
            return web.json_response({"metadata": {"resourceVersion": "7"}, "items": self.items})
        self.watched_from = request.query["resourceVersion"]
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            kind, item = await self.changes.get()
            await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")

    async def review(self, request: web.Request) -> web.Response:
        self.reviewed.append((await request.json())["spec"]["resourceAttributes"])
        return web.json_response({"status": {"allowed": False}}, status=201)


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get(Server.PATH, server.list_or_watch)
    app.router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", server.review)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "users": [{"name": "here", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield server
    await runner.cleanup()


@asynccontextmanager
async def mirrored(
    skip: Callable[[str], None] = lambda reason: None,
) -> AsyncIterator[tuple[Widgets, Reflector[Widget]]]:
    async with Api(await Access.find(), skip=skip) as api:
        store = Widgets()
        reflector = Reflector(Source(api, WIDGETS, "evals", ""), store)
        running = asyncio.create_task(reflector.run())
        try:
            yield store, reflector
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_a_new_kind_is_listed_and_watched_and_what_is_odd_of_it_skipped(server: Server) -> None:
    skipped: list[str] = []
    async with mirrored(skipped.append) as (store, reflector):
        await eventually(lambda: reflector.status.is_watching)
        assert (store.sizes, skipped, server.watched_from) == ({"a": 1, "b": 2}, ["bad_object"], "7")
        server.changes.put_nowait(("MODIFIED", widget("a", 3, 8)))
        server.changes.put_nowait(("ADDED", widget("", 9, 9)))
        server.changes.put_nowait(("ADDED", widget("c", 4, 10)))
        server.changes.put_nowait(("DELETED", widget("b", 2, 11)))
        await eventually(lambda: store.sizes == {"a": 3, "c": 4})
        assert skipped == ["bad_object", "bad_object"]


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_a_missing_permission_for_it_is_named_with_the_rule_that_grants_it(server: Server, verb: str) -> None:
    server.refused = verb
    async with mirrored() as (_, reflector):
        why = await eventually(lambda: (error := reflector.status.error) and "may not" in error and error)
    assert why == (
        "may not list and watch widgets in namespace evals: add to its Role the rule "
        'apiGroups ["example.dev"], resources ["widgets"], verbs ["list", "watch"] '
        f'(widgets.example.dev is forbidden: User "x" cannot {verb} resource "widgets")'
    )


async def test_its_permissions_can_be_asked_for(server: Server) -> None:
    wanted = [Permission("list", WIDGETS), Permission("patch", WIDGETS, "status")]
    async with Api(await Access.find()) as api:
        assert await missing(api, wanted, "evals") == wanted
    common = {"group": "example.dev", "resource": "widgets", "namespace": "evals"}
    assert server.reviewed == [
        {"verb": "list", "subresource": "", **common},
        {"verb": "patch", "subresource": "status", **common},
    ]
    assert [str(one) for one in wanted] == ["list widgets", "patch widgets/status"]
