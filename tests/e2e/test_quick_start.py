"""docs/quick-start.md on a cluster, from nothing: every command in it is run, in its order, and says what the page says."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from testbed.ports import free_port
from tests.api import Api
from tests.docs.pages import ROOT
from tests.e2e.image import IMAGE, said_by

PAGE = (ROOT / "docs" / "quick-start.md").read_text()
NAMESPACE = "jobcast-demo"
BUILD = "docker build -t jobcast:dev .\n"
PORT = "16379"
LONGEST_SECONDS = 240.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
async def nothing(cluster: Api) -> AsyncIterator[None]:
    """A cluster that has the image and knows nothing of Jobcast yet, and does not afterwards."""
    await said_by(cluster, "there", "true")
    namespace = f"/api/v1/namespaces/{NAMESPACE}"
    if (await cluster.raw("GET", namespace))[0] != 404:
        pytest.fail(f"there is a namespace {NAMESPACE} already; is somebody trying the quick start?")
    yield
    await cluster.raw("DELETE", namespace)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like one, and may be written to; with the image under test."""
    for path in ROOT.iterdir():
        if path.name not in ("k8s", "port-forward.log"):
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    base = tmp_path / "k8s" / "base" / "kustomization.yaml"
    said = yaml.safe_load(base.read_text())
    name, _, tag = IMAGE.rpartition(":")
    said["images"] = [{"name": "jobcast", "newName": name, "newTag": tag}]
    base.write_text(yaml.safe_dump(said))
    return tmp_path


@pytest.mark.usefixtures("nothing")
async def test_from_nothing_to_an_evaluation_that_was_seen(checkout: Path, cluster: Api) -> None:
    said = await asyncio.to_thread(run, checkout)
    lines = [spaced(line) for line in said.splitlines()]
    for line in "".join(blocks("text")).splitlines():
        assert any(map(pattern(line).fullmatch, lines)), f"{line}\n\n{said}"
    assert (await cluster.raw("GET", f"/api/v1/namespaces/{NAMESPACE}"))[0] == 404


def pattern(line: str) -> re.Pattern[str]:
    """… stands for what differs from time to time."""
    return re.compile(".+".join(map(re.escape, spaced(line).split("…"))))


def spaced(line: str) -> str:
    return " ".join(line.split())


def run(checkout: Path) -> str:
    """What the commands say, all together. Fails with it at the first that fails."""
    script = "".join(blocks("sh"))
    assert script.count(BUILD) == 1
    # Who builds and where to, the test does not know; that the nodes have the image it has seen.
    script = script.replace(BUILD, "").replace(PORT, str(free_port()))
    log = checkout / "said"
    with log.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-c", f"set -euo pipefail\n{script}"],
            cwd=checkout,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
    try:
        code = shell.wait(LONGEST_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the forwarding, where the page did not come to its end
            os.killpg(shell.pid, signal.SIGTERM)
    assert code == 0, f"exit code {code}:\n{log.read_text()}"
    return log.read_text()
