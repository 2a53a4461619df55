"""What is in the image, looked at from inside a Pod of it in a restricted namespace."""

import json
import re

import pytest

from jobcast import __version__
from tests.api import Api
from tests.conftest import eventually
from tests.e2e.image import IMAGE, said_by

MOST_BYTES = 200_000_000
FORBIDDEN = {"cc", "gcc", "g++", "c++", "clang", "tcc", "ld", "as", "make", "pip", "pip3", "uv", "git", "curl", "wget"}
"""Nothing is built in it, and nothing fetched."""
LOOK = """
import importlib, importlib.util, json, os, pathlib, sys

def is_refused(path):
    try:
        pathlib.Path(path, "here").touch()
    except OSError:
        return True

names = {name for folder, _, files in os.walk("/") if not folder.startswith(("/proc", "/sys"))
         for name in files if os.access(os.path.join(folder, name), os.X_OK)}
began = set(sys.modules)
for module in ("controller.__main__", "jobcast.cli.app", "worker.celery", "celery.bin.celery"):
    importlib.import_module(module)
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "programs": sorted(names),
    "strangers": [name for name in ("devcluster", "testbed", "tests", "demo", "chaos", "pip") if importlib.util.find_spec(name)],
    "refused": [path for path in ("/", "/app", "/usr", "/tmp") if is_refused(path)],
    "uncompiled": [name for name, module in list(sys.modules.items()) if (spec := getattr(module, "__spec__", None))
                   and spec.has_location and spec.cached and not os.path.exists(spec.cached)],
    "modules": len(sys.modules),
}))
"""


@pytest.fixture
async def restricted(cluster: Api) -> Api:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await cluster.patch(f"/api/v1/namespaces/{cluster.namespace}", {"metadata": {"labels": labels}})
    return cluster


async def test_it_has_what_it_needs_and_nothing_else(restricted: Api) -> None:
    found = json.loads((await said_by(restricted, "look", "python", "-W", "ignore", "-c", LOOK)).splitlines()[-1])
    assert found["user"] == [10001, 10001]
    assert FORBIDDEN.isdisjoint(found["programs"])
    assert {"python", "celery", "jobcast"} <= set(found["programs"])
    assert found["strangers"] == []
    assert found["refused"] == ["/", "/app", "/usr", "/tmp"]
    assert found["modules"] > 500
    assert found["uncompiled"] == [], "each start would compile them: the bytecode cannot be written where it runs"


async def test_the_command_is_in_it(restricted: Api) -> None:
    assert await said_by(restricted, "version", "jobcast", "--version") == f"jobcast {__version__}\n"


async def test_it_is_small(restricted: Api) -> None:
    await said_by(restricted, "there", "true")

    async def size() -> int | None:
        """As a node says it, which it does some seconds after it got the image."""
        nodes = (await restricted.get("/api/v1/nodes"))["items"]
        images = [image for node in nodes for image in node["status"]["images"]]
        name = re.compile(rf"(.*/)?{re.escape(IMAGE)}")
        return next((one["sizeBytes"] for one in images if any(map(name.fullmatch, one["names"]))), None)

    assert await eventually(size, 90, 1) < MOST_BYTES
