"""A plugin of pytest's: sentinels and the cluster are started once a session, and healed before each test."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.valkeys.cluster import Cluster
from tests.valkeys.nodes import Doubled, SlowLoader
from tests.valkeys.sentinels import Watched

DOUBLED_PREFIX = "test"
"""Of the keys for which the cluster has a replica."""


@pytest.fixture(scope="session")
def _watched_of_the_session() -> Iterator[Watched]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        watched = Watched(Path(folder))
        stack.callback(watched.stop)
        yield watched


@pytest.fixture
def watched(_watched_of_the_session: Watched) -> Watched:
    """A primary with a replica and sentinels, empty and healthy. Fail it over, kill and freeze as you like."""
    _watched_of_the_session.restore()
    return _watched_of_the_session


@pytest.fixture(scope="session")
def _cluster_of_the_session() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        cluster = Cluster(Path(folder), DOUBLED_PREFIX)
        stack.callback(cluster.stop)
        yield cluster


@pytest.fixture
def cluster(_cluster_of_the_session: Cluster) -> Cluster:
    """A cluster, empty and whole; the keys of DOUBLED_PREFIX are where there is a replica."""
    _cluster_of_the_session.restore()
    return _cluster_of_the_session


@pytest.fixture(params=("sentinels", "cluster"))
def doubled(request: pytest.FixtureRequest) -> Doubled:
    # Not by the fixtures above: a folder of tests may call something else its `cluster`.
    kind = "_watched_of_the_session" if request.param == "sentinels" else "_cluster_of_the_session"
    doubled: Watched | Cluster = request.getfixturevalue(kind)
    doubled.restore()
    return doubled


@pytest.fixture
def slow_loader(tmp_path: Path) -> Iterator[SlowLoader]:
    server = SlowLoader(tmp_path)
    server.start()
    yield server
    server.stop(kill=True)
