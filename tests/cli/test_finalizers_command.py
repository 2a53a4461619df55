"""jobcast finalizers, as a process, against an API server."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devcluster import DevCluster, Fault
from jobcast.jobs.model import FINALIZER
from testbed.ports import free_port

Ran = tuple[int, str, str]
Run = Callable[..., Awaitable[Ran]]
THEIRS = "example.com/theirs"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[DevCluster]:
    async with DevCluster() as cluster:
        cluster.write_kubeconfig(tmp_path / "kubeconfig")
        async with aiohttp.ClientSession(cluster.url) as session:
            for name in ("evals", "others"):
                namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                async with session.post("/api/v1/namespaces", json=namespace) as response:
                    assert response.status == 201
        yield cluster


@pytest.fixture
def run_(run: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path) -> Run:
    """Off the event loop, on which the API server lives."""

    async def run_(*arguments: str, **more: str) -> Ran:
        environment = {"KUBECONFIG": str(tmp_path / "kubeconfig")} | more
        result = await asyncio.to_thread(run, "finalizers", *arguments, **environment)
        return result.returncode, result.stdout, result.stderr

    return run_


def held(cluster: DevCluster, name: str, namespace: str = "default", *finalizers: str) -> Any:
    """A Job that nobody runs, without any label of ours."""
    containers = [{"name": "main", "image": "busybox", "command": ["true"]}]
    return cluster.create(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "finalizers": list(finalizers or (FINALIZER,))},
            "spec": {
                "managedBy": "example.com/nobody",
                "template": {"spec": {"restartPolicy": "Never", "containers": containers}},
            },
        },
        namespace,
    )


async def finalizers_of(cluster: DevCluster, name: str, namespace: str = "default") -> list[str] | None:
    """None for a Job that is gone."""
    url = f"{cluster.url}/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        job = await response.json()
        return None if response.status == 404 else job["metadata"].get("finalizers", [])


async def delete(cluster: DevCluster, name: str) -> None:
    url = f"{cluster.url}/apis/batch/v1/namespaces/default/jobs/{name}"
    async with aiohttp.ClientSession() as session, session.delete(url) as response:
        assert response.status == 200


async def test_it_lists_the_jobs_that_are_held_and_changes_nothing(cluster: DevCluster, run_: Run) -> None:
    held(cluster, "b")
    held(cluster, "a", "default", THEIRS, FINALIZER)
    held(cluster, "not-ours", "default", THEIRS)
    held(cluster, "elsewhere", "evals")
    await delete(cluster, "b")
    code, out, err = await run_()
    shown = sorted(out.splitlines())
    assert shown[0] == "default/a  open"
    assert shown[1].startswith("default/b  open  being deleted since 20")
    assert len(shown) == 2
    assert (code, err) == (0, f"jobcast: 2 Jobs held by {FINALIZER} in namespace default\n")
    assert await finalizers_of(cluster, "a") == [THEIRS, FINALIZER]


async def test_with_remove_it_lets_them_go_and_leaves_others_finalizers(cluster: DevCluster, run_: Run) -> None:
    held(cluster, "a", "default", THEIRS, FINALIZER)
    held(cluster, "b")
    held(cluster, "elsewhere", "evals")
    await delete(cluster, "b")
    code, out, err = await run_("--remove")
    assert sorted(line.split()[0] for line in out.splitlines()) == ["default/a", "default/b"]
    assert (code, err) == (0, f"jobcast: 2 Jobs held by {FINALIZER} in namespace default; all released\n")
    assert await finalizers_of(cluster, "a") == [THEIRS]
    assert await finalizers_of(cluster, "b") is None
    assert await finalizers_of(cluster, "elsewhere", "evals") == [FINALIZER]
    assert await run_("--remove") == (0, "", f"jobcast: 0 Jobs held by {FINALIZER} in namespace default\n")


async def test_a_namespace_may_be_named_or_all_of_them(cluster: DevCluster, run_: Run) -> None:
    held(cluster, "a")
    for index in range(3):
        held(cluster, f"b-{index}", "evals")
    held(cluster, "c", "others")
    _, out, err = await run_("-n", "others")
    assert (out, err) == ("others/c  open\n", f"jobcast: 1 Job held by {FINALIZER} in namespace others\n")
    code, out, err = await run_("-A", "--remove")
    assert (code, out.count("\n")) == (0, 5)
    assert err == f"jobcast: 5 Jobs held by {FINALIZER} in all namespaces; all released\n"
    assert await finalizers_of(cluster, "c", "others") == []


async def test_one_that_cannot_be_released_is_named_and_the_others_are_released(cluster: DevCluster, run_: Run) -> None:
    for name in ("a", "b", "c"):
        held(cluster, name)
    cluster.faults.add(Fault(kind="status", verb="patch", resource="jobs", name="b", code=403, times=None))
    code, out, err = await run_("--remove")
    assert (code, out.count("\n")) == (1, 3)
    said = err.splitlines()
    assert said[0].startswith("jobcast: default/b: ")
    assert "forbidden" in said[0].lower()
    assert said[1:] == [f"jobcast: 3 Jobs held by {FINALIZER} in namespace default; released 2 of 3"]
    assert [await finalizers_of(cluster, name) for name in ("a", "b", "c")] == [[], [FINALIZER], []]


async def test_a_cluster_that_refuses_or_does_not_answer_is_code_1_and_a_line(
    cluster: DevCluster, run_: Run, tmp_path: Path
) -> None:
    cluster.faults.add(Fault(kind="status", verb="list", resource="jobs", code=403, times=None))
    code, out, err = await run_()
    assert (code, out) == (1, "")
    assert err.startswith(f"jobcast: cluster at {cluster.url}: ")
    assert "forbidden" in err.lower()
    path = tmp_path / "away"
    path.write_text((tmp_path / "kubeconfig").read_text().replace(cluster.url, f"http://127.0.0.1:{free_port()}"))
    code, out, err = await run_(KUBECONFIG=str(path))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no answer from the API server" in err


async def test_no_cluster_is_code_2_and_a_line(run_: Run, tmp_path: Path) -> None:
    code, out, err = await run_(KUBECONFIG=str(tmp_path / "missing"), HOME=str(tmp_path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("jobcast: ")
    assert "missing" in err


async def test_a_namespace_and_all_of_them_exclude_each_other(run_: Run) -> None:
    code, out, err = await run_("-n", "evals", "-A")
    assert (code, out, err) == (2, "", "jobcast: --namespace: it excludes --all-namespaces\n")


@pytest.mark.parametrize("package", ["aiohttp", "yaml"])
def test_without_the_extra_it_says_what_to_install(package: str) -> None:
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv[1:] = ["finalizers"]
from jobcast.cli import main
main()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"jobcast: {package} is missing; access to a cluster needs: pip install 'jobcast[controller]'\n"
    )
