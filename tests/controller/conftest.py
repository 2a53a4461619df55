"""A fresh world for each test; nothing of it is left behind."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devcluster import DevCluster
from devcluster.server import Server
from testbed.valkey import ValkeyServer
from tests.controller.world import Wiretap, World


@pytest.fixture
def wiretap(monkeypatch: pytest.MonkeyPatch) -> Wiretap:
    tap = Wiretap()

    async def handle(server: Server, request):  # type: ignore[no-untyped-def]
        return await tap.handle(server, request)

    monkeypatch.setattr(Server, "handle", handle)
    return tap


@pytest.fixture
async def cluster(wiretap: Wiretap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DevCluster]:
    """Bookmarks and retries come quickly, and the current context leads to it."""
    async with DevCluster(bookmark_seconds=0.3, backoff_seconds=0.05) as cluster:
        cluster.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield cluster


@pytest.fixture
async def world(cluster: DevCluster, wiretap: Wiretap, valkey: ValkeyServer) -> AsyncIterator[World]:
    """On the session's Valkey."""
    async with World(cluster, wiretap, valkey.url, _fresh()) as world:
        yield world
    await _nothing_is_left()


@pytest.fixture
async def own_world(cluster: DevCluster, wiretap: Wiretap, own_valkey: ValkeyServer) -> AsyncIterator[World]:
    """On a Valkey that the test may stop and start again."""
    async with World(cluster, wiretap, own_valkey.url, _fresh()) as world:
        world.is_redis_steady = False
        yield world
    await _nothing_is_left()


@pytest.fixture
async def persistent_world(
    cluster: DevCluster, wiretap: Wiretap, persistent_valkey: ValkeyServer
) -> AsyncIterator[World]:
    """On a Valkey that may be stopped and started again, and that remembers."""
    async with World(cluster, wiretap, persistent_valkey.url, _fresh()) as world:
        world.is_redis_steady = False
        yield world
    await _nothing_is_left()


def _fresh() -> str:
    return f"w-{uuid.uuid4().hex[:8]}"


async def _nothing_is_left() -> None:
    """No task of the controller's outlives it; the cluster's own still run."""
    owned = (
        "reconcile",
        "ledger",
        "redis",
        "turn",
        "log ",
        "jobs ",
        "pods ",
        "open ",
        "claims",
        "finalizers",
        "keep",
        "pulse",
    )
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith((*owned, "controller"))]
    assert not left, f"still running: {left}"
