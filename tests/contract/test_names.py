"""Names that somebody wrote into Redis: whatever they are, they lead to nothing but what they name."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from aiohttp import web

from jobcast import kube
from jobcast.kube import PODS, Access

ODD = ["a?watch=true", "a#b", "a b", "ä", ";", "..."]
NONE = ["", ".", "..", "a/b", "../../../v1/namespaces/x/secrets/y", "a%2Fb"]


class Recorder:
    """An API server that knows nothing, and keeps what it was asked for, as it came."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.raw_path)
        status = {"kind": "Status", "code": 404, "reason": "NotFound"}
        return web.json_response(status, status=404)


@pytest.fixture
async def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", recorder.answer)
    runner = web.AppRunner(app, access_log=None)
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
    yield recorder
    await runner.cleanup()


async def ask_all(api: kube.Api, namespace: str, name: str) -> None:
    """Everything that is asked of the API server by the name of one thing."""
    assert await api.job(namespace, name) is None
    await api.hold(namespace, name, "uid")
    await api.release(namespace, name, "uid")
    with contextlib.suppress(kube.NotFound):
        async with api.log(namespace, name, "main"):
            pass


@pytest.mark.parametrize("odd", ODD)
async def test_a_name_stays_one_segment_of_the_path(recorder: Recorder, odd: str) -> None:
    async with kube.Api(await Access.find()) as api:
        await ask_all(api, odd, "name")
        await ask_all(api, "namespace", odd)
        with contextlib.suppress(kube.NotFound):
            await api.pods_of(odd, "a=b")
    jobs, pods = (
        [f"/{group}/namespaces/{namespace}/{kind}/{name}" for namespace, name in ((odd, "name"), ("namespace", odd))]
        for group, kind in (("apis/batch/v1", "jobs"), ("api/v1", "pods"))
    )
    asked = [[f"{job}/status", job, job, f"{pod}/log"] for job, pod in zip(jobs, pods, strict=True)]
    wanted = [*asked[0], *asked[1], f"/api/v1/namespaces/{odd}/pods"]
    paths = [path.partition("?")[0] for path in recorder.asked]
    assert list(map(unquote, paths)) == wanted
    assert [path.count("/") for path in paths] == [8, 7, 7, 7, 8, 7, 7, 7, 5]


@pytest.mark.parametrize("none", NONE)
async def test_what_cannot_be_a_name_is_not_asked_for(recorder: Recorder, none: str) -> None:
    async with kube.Api(await Access.find()) as api:
        await ask_all(api, none, "name")
        await ask_all(api, "namespace", none)
        with pytest.raises(kube.NotFound):
            await api.pods_of(none, "a=b")
        assert recorder.asked == []
        with contextlib.suppress(kube.NotFound):
            async for _ in api.pages(PODS, None, ""):
                pass
    assert [path.partition("?")[0] for path in recorder.asked] == ["/api/v1/pods"], "None is all namespaces"
