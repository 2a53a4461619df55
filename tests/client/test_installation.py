"""`pip install jobcast` alone gives a subscriber the client: redis and msgspec suffice."""

import subprocess
import sys

import pytest

from tests.conftest import ValkeyServer

ALONE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        allowed = {"jobcast", "redis", "msgspec", "hiredis", *sys.stdlib_module_names}
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.modules["hiredis"] = None
"""


def alone(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run code where nothing but jobcast, redis and msgspec is installed."""
    command = [sys.executable, "-W", "error", "-c", ALONE + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_both_clients_work_with_redis_and_msgspec_alone(valkey: ValkeyServer, prefix: str) -> None:
    result = alone(
        """
import asyncio
from jobcast.client import AsyncClient, Client
from jobcast import on

async def ask(url, prefix):
    async with AsyncClient(url, prefix) as jobcast:
        async with jobcast.events(), jobcast.stream("scoring"):
            return await jobcast.get("42")

print(asyncio.run(ask(*sys.argv[1:])))
with Client(*sys.argv[1:]) as jobcast, jobcast.events():
    print(jobcast.get("42"))
""",
        valkey.url,
        prefix,
    )
    assert (result.stdout, result.stderr, result.returncode) == ("None\nNone\n", "", 0)


@pytest.mark.parametrize("arguments", [[], ["watch"], ["--help"]])
def test_the_command_without_its_extra_says_what_to_install(arguments: list[str]) -> None:
    result = alone("from jobcast.cli import main; main()", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "jobcast: typer is missing; the command needs: pip install 'jobcast[cli]'\n"
