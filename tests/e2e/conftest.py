"""A fresh namespace of the cluster in the current context, a Valkey of one's own, and the parts between them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from testbed.valkey import ValkeyServer
from tests.api import Api, client, connection
from tests.parts import Parts, Told


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture
async def cluster() -> AsyncIterator[Api]:
    async with client(*connection()) as api:
        await api.can_run_pods()
        yield api


@pytest.fixture
def parts(cluster: Api, own_valkey: ValkeyServer, tmp_path: Path) -> Iterator[Parts]:
    made = Parts({"REDIS_URL": own_valkey.url, "NAMESPACES": cluster.namespace}, tmp_path)
    yield made
    made.stop()


@pytest.fixture
async def published(own_valkey: ValkeyServer) -> AsyncIterator[Told]:
    async with Told(own_valkey.url) as made:
        yield made
