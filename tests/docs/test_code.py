"""The Python in README.md and docs/subscribing.md runs as it stands there. That of docs/worker.md has a test of its own."""

import asyncio
import os
import re
import sys
import uuid
from pathlib import Path

import pytest

from testbed.valkey import ValkeyServer
from tests.client.keeping import LogKeeper
from tests.client.telling import event, telling_to
from tests.docs.pages import ROOT

RUNNER = """
import ast, asyncio, pathlib, sys
code = compile(pathlib.Path(sys.argv[1]).read_text(), "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
left = eval(code)
if left is not None:
    asyncio.run(left)
"""


def code(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "block", [*code("README.md"), *code("docs/subscribing.md")], ids=lambda block: block.splitlines()[0]
)
async def test_it_ends_well_or_shows_what_is_published(block: str, valkey: ValkeyServer, tmp_path: Path) -> None:
    imports = "from jobcast.client import Client\n"  # which one of the pieces has from the one above it
    there = block.replace("localhost:6379", f"localhost:{valkey.port}")
    (tmp_path / "block.py").write_text(imports + there.replace("redis.Redis(", f"redis.Redis(port={valkey.port}, "))
    said = tmp_path / "said"
    async with telling_to(valkey.url, "evaluation") as teller:
        running = event("running", "eval-42")
        await teller.tell(running)
        log = await LogKeeper(teller.ledger, running.job, "eval-42").keep(b"score 7\n")
        await teller.tell(event("completed", "eval-42", log=log))
        with said.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-u", "-W", "error", "-c", RUNNER, "block.py"),
                cwd=tmp_path,
                env={**os.environ, "REDIS_URL": valkey.url},
                stdout=file,
                stderr=file,
            )
        while process.returncode is None and "eval-" not in said.read_text():
            await teller.tell(event("completed", f"eval-{uuid.uuid4().hex[:8]}"))
            await asyncio.sleep(0.05)
        if process.returncode is None:
            process.kill()
        else:
            assert process.returncode == 0, said.read_text()
        await process.wait()
    assert "Traceback" not in said.read_text()
