"""Finding the cluster, as each sweep does anew."""

import base64
import tempfile
from pathlib import Path

import pytest

from jobcast.kube import Access

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
