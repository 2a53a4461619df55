"""One contract, two servers: every test that takes `api` runs on devcluster and, marked `cluster`, on a real one."""

from collections.abc import AsyncIterator

import pytest

from devcluster import DevCluster
from tests.api import Api, client, connection


@pytest.fixture
async def devcluster() -> AsyncIterator[DevCluster]:
    # Bookmarks come quickly, so that the tests need not wait for them; retries too.
    async with DevCluster(bookmark_seconds=0.2, backoff_seconds=0.05) as cluster:
        yield cluster


@pytest.fixture
async def dev(devcluster: DevCluster) -> AsyncIterator[Api]:
    """devcluster alone, for what a real server will not do on demand."""
    async with client(devcluster.url, None, {}, devcluster) as api:
        yield api


@pytest.fixture(params=["devcluster", pytest.param("cluster", marks=pytest.mark.cluster)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """The API server under test, with a fresh namespace."""
    if request.param == "devcluster":
        # A container that ends at once is not seen running, as on a real node.
        async with (
            DevCluster(backoff_seconds=0.05, notice_seconds=0.05) as cluster,
            client(cluster.url, None, {}, cluster) as api,
        ):
            yield api
    else:
        async with client(*connection()) as api:
            yield api
