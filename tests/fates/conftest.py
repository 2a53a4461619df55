"""Two stages, devcluster and (marked `cluster`) the one of the current context; each test in a fresh namespace."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import pytest
import redis.asyncio

from tests.api import client
from tests.fates import table
from tests.fates.fate import Fate
from tests.fates.stage import Stage, devcluster, staged
from tests.parts import Told

STAGES = ["devcluster", pytest.param("cluster", marks=[pytest.mark.cluster, pytest.mark.timeout(300)])]


@pytest.fixture(scope="session")
def _devcluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with devcluster(tmp_path_factory.mktemp("devcluster")) as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="session", params=STAGES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Shared: do not stop any part of it."""
    with _staged(request, tmp_path_factory.mktemp(request.param)) as stage:
        stage.parts.start_controller().wait()
        yield stage


@pytest.fixture(params=STAGES)
def own_stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """For this test alone, and nobody watches yet."""
    with _staged(request, tmp_path) as stage:
        yield stage


@pytest.fixture
async def fate(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Fate]:
    async for made in _fate(stage, request):
        yield made


@pytest.fixture
async def own_fate(own_stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Fate]:
    """Start its controller with `fate.stage.parts`."""
    async for made in _fate(own_stage, request):
        yield made


def _staged(request: pytest.FixtureRequest, folder: Path) -> AbstractContextManager[Stage]:
    kubeconfig = request.getfixturevalue("_devcluster") if request.param == "devcluster" else None
    return staged(request.param, folder, kubeconfig)


async def _fate(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Fate]:
    connected = redis.asyncio.Redis.from_url(stage.valkey.url)
    async with connected, Told(stage.valkey.url) as published, client(*stage.connection) as api:
        if stage.is_real:
            await api.can_run_pods()
        fate = Fate(stage, api, published, connected)
        try:
            yield fate
        finally:
            line = {name: _cell(cell) for name, cell in asdict(fate.line).items()}
            line |= {"fate": _name(request.node), "stage": stage.name, "bytes equal": line.pop("bytes")}
            request.node.user_properties.append((table.PROPERTY, line))


def _cell(words: list[str]) -> str:
    return " | ".join(dict.fromkeys(words)) or "-"


def _name(test: pytest.Function) -> str:
    """The test's, in words, with what tells it from its likes."""
    words = test.originalname.removeprefix("test_").replace("_", " ")
    _, _, variant = test.callspec.id.partition("-")
    return f"{words} ({variant})" if variant else words
