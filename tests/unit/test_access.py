"""Finding the cluster, as each sweep does anew."""

import gc
import tracemalloc
from pathlib import Path

import pytest

from jobcast.kube import Access

CONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
"""
TIMES = 5
LEAST_LEFT = 100_000
"""Bytes: half of what a single import of the library's modules leaves."""


@pytest.mark.must_survive(34)
async def test_finding_the_cluster_again_and_again_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(CONFIG)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    await Access.find()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(TIMES):
            await Access.find()
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < LEAST_LEFT
