"""`pip install jobcast` alone gives a subscriber the client: redis and msgspec suffice."""

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.valkey import ValkeyServer
from tests.client.keeping import LogKeeper
from tests.client.telling import event, telling_to

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


@pytest.mark.parametrize("store", ["redis", "file"])
async def test_a_log_without_its_extra_says_what_to_install(
    valkey: ValkeyServer, prefix: str, store: str, tmp_path: Path
) -> None:
    async with telling_to(valkey.url, prefix) as teller:
        await teller.tell(event("running"))
        keeper = LogKeeper(
            teller.ledger, event("running").job, store="redis" if store == "redis" else f"file://{tmp_path}"
        )
        await teller.tell(event("failed", log=await keeper.keep(b"hello")))
    result = alone(
        """
import asyncio
from jobcast.client import AsyncClient, Client, NotKept

async def read(url, prefix):
    async with AsyncClient(url, prefix) as jobcast:
        return await jobcast.log("42").read()

try:
    asyncio.run(read(*sys.argv[1:]))
except NotKept as error:
    print(error)
try:
    with Client(*sys.argv[1:]) as jobcast:
        jobcast.log("42").read()
except NotKept as error:
    print(error)
""",
        valkey.url,
        prefix,
    )
    package, what = ("zstandard", "whole logs") if store == "redis" else ("obstore", "object stores")
    line = f"the log of pod-a/main: {package} is missing; {what} need: pip install 'jobcast[archive]'\n"
    assert (result.stdout, result.stderr, result.returncode) == (line * 2, "", 0)


@pytest.mark.parametrize("arguments", [[], ["watch"], ["--help"]])
def test_the_command_without_its_extra_says_what_to_install(arguments: list[str]) -> None:
    result = alone("from jobcast.cli import main; main()", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "jobcast: typer is missing; the command needs: pip install 'jobcast[cli]'\n"
