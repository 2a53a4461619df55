"""`python -m devcluster`: how it starts, how it stops, and that nothing stays, whichever way it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from devcluster import DevCluster
from tests.api import Api, make_job

from .test_status import counted


@contextlib.asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A devcluster process and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devcluster",
        "--kubeconfig",
        str(folder / "kubeconfig"),
        "--data",
        str(folder),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("devcluster ready url=http://127.0.0.1:")
        assert line.endswith(f" kubeconfig={folder / 'kubeconfig'}\n")
        yield process, line.split()[2].removeprefix("url=")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


async def running(url: str, command: str) -> int:
    """Start a Job that writes down its process id, which is what comes back. (Kubernetes reads `$$` as one dollar.)"""
    async with aiohttp.ClientSession(url) as session:
        job = make_job("a", f"echo $$$$; {command}", pod={"terminationGracePeriodSeconds": 1})
        async with session.post("/apis/batch/v1/namespaces/default/jobs", json=job) as response:
            assert response.status == 201
        async with asyncio.timeout(60):
            while True:
                async with session.get("/api/v1/namespaces/default/pods") as response:
                    items = (await response.json())["items"]
                for pod in items:
                    path = f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}/log"
                    async with session.get(path) as response:
                        text = await response.text()
                    if response.status == 200 and text.endswith("\n"):
                        return int(text)
                await asyncio.sleep(0.02)


async def ends(group: int) -> None:
    """Wait until a process group is gone."""
    async with asyncio.timeout(60):
        while True:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_whichever_way_it_ends_nothing_stays(tmp_path: Path, number: signal.Signals) -> None:
    async with started(tmp_path) as (process, url):
        config = json.loads((tmp_path / "kubeconfig").read_text())
        assert config["clusters"][0]["cluster"]["server"] == url
        # A child in the background and deaf to TERM: what a Job may leave behind.
        group = await running(url, "trap '' TERM; sleep 300 & sleep 300")
        process.send_signal(number)
        async with asyncio.timeout(60):
            code = await process.wait()
        assert code == (-number if number == signal.SIGKILL else 0)
        await ends(group)
    async with asyncio.timeout(60):
        while [path.name for path in tmp_path.iterdir()] != ["kubeconfig"]:
            await asyncio.sleep(0.02)


async def test_in_one_process_nothing_stays_either(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with DevCluster(data=tmp_path) as cluster:
        group = await running(cluster.url, "trap '' TERM; sleep 300 & sleep 300")
    await ends(group)
    assert asyncio.all_tasks() == before
    assert list(tmp_path.iterdir()) == []


async def test_a_job_is_over_in_a_moment(dev: Api) -> None:
    await dev.create(make_job("warm"))
    await dev.ended("warm")
    begun = time.monotonic()
    await dev.create(make_job("quick"))
    await dev.ended("quick")
    # A few milliseconds when the machine is idle; the promise is 0.2 s, the rest is for neighbours.
    assert time.monotonic() - begun < 5


async def test_a_hundred_jobs_at_once(dev: Api) -> None:
    async with dev.recording(dev.jobs) as jobs:
        await asyncio.gather(*(dev.create(make_job(f"job-{n}", f"echo {n}")) for n in range(100)))
        for n in range(100):
            await jobs.until(
                lambda event, name=f"job-{n}": (  # type: ignore[misc]
                    event["object"]["metadata"]["name"] == name and event["object"]["status"].get("succeeded") == 1
                )
            )


async def test_jobs_can_be_left_alone() -> None:
    async with DevCluster(run_jobs=False) as cluster, aiohttp.ClientSession(cluster.url) as session:
        path = "/apis/batch/v1/namespaces/default/jobs"
        async with session.post(path, json=make_job("a")) as response:
            assert response.status == 201
        await asyncio.sleep(0.05)  # whoever would act acts at once
        async with session.get(f"{path}/a") as response:
            assert (await response.json())["status"] == {}


async def test_a_late_kubelet_never_sees_a_short_container_run() -> None:
    """As on a real node, which looks once a second."""
    async with DevCluster(notice_seconds=0.5) as cluster:
        seen: list[str] = []

        def phases(event: object) -> None:
            new = event.new  # type: ignore[attr-defined]
            for status in new.get("status", {}).get("containerStatuses") or []:
                seen.extend(status["state"])

        cluster.store.subscribe(phases)
        async with aiohttp.ClientSession(cluster.url) as session:
            await session.post("/apis/batch/v1/namespaces/default/jobs", json=make_job("a"))
            async with asyncio.timeout(60):
                while "terminated" not in seen:
                    await asyncio.sleep(0.01)
    assert "running" not in seen


async def test_what_leaves_the_process_group_does_not_hold_up_the_pod(dev: Api) -> None:
    if not Path("/usr/bin/setsid").exists():
        pytest.skip("no setsid here")
    await dev.create(make_job("a", "setsid sleep 3 & echo done"))
    assert counted((await dev.ended("a"))["status"])["succeeded"] == 1


async def test_nothing_of_ours_leaks_into_a_container(dev: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "x")
    await dev.create(make_job("a", "echo [$SECRET_OF_OURS]"))
    await dev.ended("a")
    pod = (await dev.get(dev.pods))["items"][0]["metadata"]["name"]
    assert (await dev.raw("GET", f"{dev.pods}/{pod}/log"))[1] == b"[]\n"
