"""How our own client takes a refusal."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from jobcast import kube
from jobcast.kube import Access


async def test_a_refusal_that_comes_in_pieces_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = {
        "kind": "Status",
        "code": 404,
        "reason": "NotFound",
        "message": f'jobs.batch "a" not found{" " * 2000}',
    }

    async def refuse(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=404)
        await response.prepare(request)
        body = json.dumps(published).encode()
        for part in (body[:100], body[100:]):
            await response.write(part)
            await asyncio.sleep(0.05)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "here", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    try:
        async with kube.Api(await Access.find()) as api:
            with pytest.raises(kube.NotFound, match=r"jobs\.batch .* not found"):
                async with api.log("x", "a", "main"):
                    pass
    finally:
        await runner.cleanup()
