"""Finding the cluster, as each sweep does anew."""

import asyncio
import base64
import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobcast.kube import Access, NoCluster, access
from tests.conftest import eventually

CONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: k, user: u}}}}]
clusters: [{{name: k, cluster: {{server: "https://127.0.0.1:1", certificate-authority-data: "{}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
"""


@pytest.mark.must_survive(34)
async def test_finding_the_cluster_again_and_again_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(CONFIG.format(base64.b64encode(str(tmp_path).encode()).decode()))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(list(tmp_path.iterdir()))
    for _ in range(5):
        await Access.find()
    # The library keeps certificates in files and, at the exit, its modules with them: 200 KB each time they are loaded.
    assert len(list(tmp_path.iterdir())) == before + 1


async def test_a_cluster_is_known_again_by_its_certificates_whatever_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cluster(certificate: str, address: str) -> str:
        text = CONFIG.format(base64.b64encode(certificate.encode()).decode()).replace("127.0.0.1:1", address)
        (tmp_path / "config").write_text(text)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        return (await Access.find()).cluster

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert await cluster(f"{tmp_path} one", "a:1") == await cluster(f"{tmp_path} one\n", "b:2")
    assert await cluster(f"{tmp_path} one", "a:1") != await cluster(f"{tmp_path} other", "a:1")


TURNS = 10
PLUGIN = """#!/bin/sh
if [ -e {0}/hang ]; then echo $$ > {0}/pid; exec sleep 600; fi
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{"token": "t"}}}}'
"""


@pytest.fixture
async def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """The folder of an exec plugin that gives a token, and hangs once `hang` is in it."""
    script = tmp_path / "plugin"
    script.write_text(PLUGIN.format(tmp_path))
    script.chmod(0o755)
    user = f"exec: {{apiVersion: client.authentication.k8s.io/v1, command: {script}}}"
    (tmp_path / "config").write_text(CONFIG.format("").replace("token: t", user))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    written, before = tmp_path / "pid", {*threading.enumerate()}
    yield tmp_path
    pid = int(await eventually(lambda: written.exists() and written.read_text()))
    os.kill(pid, signal.SIGKILL)
    # asyncio hears of its end from a thread, and closes what it has of it in the turns of the loop that follow.
    await eventually(lambda: not any("waitpid" in new.name for new in {*threading.enumerate()} - before))
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_an_exec_plugin_that_hangs_is_no_cluster(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "CREDENTIALS_SECONDS", 1.0)
    (plugin / "hang").touch()
    with pytest.raises(NoCluster, match=r"config: no credentials within 1 s: an exec plugin or .* hangs"):
        await Access.find()


async def test_a_plugin_that_hangs_when_its_token_is_refused_is_given_up(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await Access.find()
    monkeypatch.setattr(access, "CREDENTIALS_SECONDS", 1.0)
    (plugin / "hang").touch()
    with pytest.raises(NoCluster, match="no credentials within"):
        await found.refresh()
