"""A fresh namespace of the cluster in the current context, a Valkey of one's own, and the parts between them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jobcast.kube import Access
from tests.conftest import ValkeyServer
from tests.e2e.cluster import Cluster
from tests.e2e.parts import Parts, Told


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(await Access.find()) as found:
        yield found


@pytest.fixture
def parts(cluster: Cluster, own_valkey: ValkeyServer, tmp_path: Path) -> Iterator[Parts]:
    made = Parts(cluster.namespace, own_valkey.url, tmp_path)
    yield made
    made.stop()


@pytest.fixture
async def told(own_valkey: ValkeyServer) -> AsyncIterator[Told]:
    async with Told(own_valkey.url) as made:
        yield made
