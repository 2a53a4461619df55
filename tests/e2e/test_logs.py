"""Logs of a real node over a way that ends answers in the middle, as if they were whole."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.api import Api, evaluation
from tests.conftest import eventually
from tests.parts import Parts, Told

LINES = 20_000


class Way:
    """A plain HTTP server that passes everything on to the API server, but ends the bodies of logs where `ends` says."""

    def __init__(self, cluster: Api) -> None:
        self._cluster = cluster
        self.ends: Callable[[int, web.Request], int | None] = lambda number, request: None
        """After how many bytes the body of this log ends, by the number of the request; None: not before its end."""
        self.logs: list[dict[str, str]] = []
        """The requests for logs."""

    @asynccontextmanager
    async def open(self, kubeconfig: Path) -> AsyncIterator[None]:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "way",
                    "contexts": [{"name": "way", "context": {"cluster": "way", "user": "way"}}],
                    "clusters": [{"name": "way", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
                    "users": [{"name": "way", "user": {}}],
                }
            )
        )
        try:
            yield
        finally:
            await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        left = None
        if request.path.endswith("/log"):
            left = self.ends(len(self.logs), request)
            self.logs.append(dict(request.query))
        headers = {name: value for name, value in request.headers.items() if name in ("Accept", "Content-Type")}
        async with self._cluster.session.request(
            request.method,
            self._cluster.url + request.path_qs,
            data=await request.read() or None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk if left is None else chunk[:left])
                if left is not None:
                    left -= len(chunk)
                    if left <= 0:
                        break
            await response.write_eof()
            return response


@pytest.fixture
async def way(cluster: Api, parts: Parts, tmp_path: Path) -> AsyncIterator[Way]:
    made = Way(cluster)
    async with made.open(tmp_path / "way"):
        parts.environment["KUBECONFIG"] = str(tmp_path / "way")
        parts.environment["LOG_STORE"] = f"file://{tmp_path}/logs"
        yield made
        parts.stop()


async def end_of(published: Told, uid: str) -> dict[str, Any]:
    async def found() -> dict[str, Any] | None:
        ends = [event for event in await published.stream() if event["job"]["uid"] == uid and "log" in event]
        return ends[0] if ends else None

    end: dict[str, Any] = await eventually(found, 120, 0.2)
    return end


def stored(event: dict[str, Any]) -> bytes:
    return Path(event["log"]["ref"].removeprefix("file://")).read_bytes()


LONG = f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i of a log; done; sleep 1"
EXACT = b"".join(b"line %d of a log\n" % number for number in range(1, LINES + 1))


@pytest.mark.must_survive(38)
async def test_a_log_whose_answer_ends_in_the_middle_is_read_to_its_end(
    cluster: Api, parts: Parts, published: Told, way: Way
) -> None:
    ends = [300_000, None, 20, 500_000]
    way.ends = lambda number, request: ends[number] if number < len(ends) else None
    await parts.controller()
    created = await cluster.create(evaluation("long", LONG))
    event = await end_of(published, created["metadata"]["uid"])
    assert (event["log"]["state"], event["log"]["bytes"]) == ("complete", len(EXACT)), event["log"]
    assert event["log"]["sha256"] == hashlib.sha256(EXACT).hexdigest()
    assert stored(event) == EXACT


@pytest.mark.must_survive(38)
async def test_a_log_whose_end_cannot_be_proved_in_time_is_truncated_and_whole_later(
    cluster: Api, parts: Parts, published: Told, way: Way
) -> None:
    way.ends = lambda number, request: 300_000 if "tailLines" not in request.query else None
    await parts.controller(LOG_WAIT_SECONDS="3")
    created = await cluster.create(evaluation("long", LONG))
    event = await end_of(published, created["metadata"]["uid"])
    assert (event["log"]["state"], event["log"]["reason"]) == ("truncated", "unproved"), event["log"]
    assert 0 < event["log"]["bytes"] < len(EXACT)
    assert EXACT.startswith(event["output"][:1000].encode())
    way.ends = lambda number, request: None

    async def is_whole() -> bool:
        row = await published.row(created["metadata"]["uid"])
        logs = [json.loads(value) for field, value in row.items() if field.startswith("log:")]
        return any(log["state"] == "complete" and stored({"log": log}) == EXACT for log in logs)

    await eventually(is_whole, 120, 0.2)


@pytest.mark.must_survive(38)
async def test_a_followed_log_that_ends_while_its_container_runs_is_followed_on(
    cluster: Api, parts: Parts, published: Told, way: Way
) -> None:
    way.ends = lambda number, request: 40 if request.query.get("follow") == "true" and number < 2 else None
    await parts.controller()
    command = "trap '' TERM; echo one; sleep 6; echo two; sleep 2; echo three"
    created = await cluster.create(
        evaluation("killed", command, activeDeadlineSeconds=3, pod={"terminationGracePeriodSeconds": 60})
    )
    event = await end_of(published, created["metadata"]["uid"])
    assert any(query.get("follow") == "true" for query in way.logs)
    assert (event["output"], event["log"]["state"]) == ("one\ntwo\nthree\n", "complete"), event["log"]


@pytest.mark.must_survive(17, 38)
async def test_bytes_and_long_lines_are_exact_and_proved_with_one_request_more(
    cluster: Api, parts: Parts, published: Told, way: Way
) -> None:
    await parts.controller()
    scripts = {
        "bytes": (r"printf '\377\376 \200\n\000\nno newline'", b"\xff\xfe \x80\n\x00\nno newline"),
        "stamps": ("echo 2026-11-20T10:00:00.123456789Z x; echo failed to open log file", None),
        "parts": ("head -c 100000 /dev/zero | tr '\\0' x; echo end", b"x" * 100_000 + b"end\n"),
        "lines": ("seq 1 30000", b"".join(b"%d\n" % number for number in range(1, 30_001))),
        "nothing": ("true", b""),
    }
    for name, (script, exact) in scripts.items():
        # The pause, because containerd may lose the last output of a container that ends at once: `kubectl logs` lacks it too.
        created = await cluster.create(evaluation(name, f"{script}; sleep 1"))
        event = await end_of(published, created["metadata"]["uid"])
        assert event["log"]["state"] == "complete", event["log"]
        if exact is None:
            exact = b"2026-11-20T10:00:00.123456789Z x\nfailed to open log file\n"
        assert (stored(event) if exact else b"") == exact, name
        assert event["log"]["sha256"] == hashlib.sha256(exact).hexdigest()
    reads = [query for query in way.logs if "limitBytes" not in query]
    assert len(reads) == 2 * len(scripts), reads
