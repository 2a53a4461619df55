"""Runs every command in README.md and on the pages as a reader would, unless the page has its own test.

The reader has a Redis with the ended evaluation eval-42, a cluster with a controller and a Job, my-job, and a `redis-cli` of a few lines
of Python. New commands are run as well, and fail if they do not work here.
"""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from jobcast.event import Attempt, JobRef
from testbed.valkey import ValkeyServer
from tests.cli.operating import Stage, ago
from tests.client.keeping import LogKeeper
from tests.client.telling import Teller, event, telling_to
from tests.docs.pages import HELD, ROOT, WHOLE, commands, left_over
from tests.fates.stage import devcluster
from tests.parts import Parts

ENDLESS = ("redis-cli SUBSCRIBE", "redis-cli PSUBSCRIBE", "jobcast watch")
"""They run until they are stopped. The test waits until they show an event."""
LONGEST_SECONDS = 100.0
PLAIN = """
import json, shlex, sys
from typer.testing import CliRunner
from jobcast.cli.app import app

for line in json.load(sys.stdin):
    done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
    if done.exit_code:
        sys.exit(f"{line}\\nended with {done.exit_code}:\\n{done.output}{done.exception}")
"""
"""Runs one `jobcast …` after the other in one process, which saves many starts of Python."""
REDIS_CLI = """#!{python}
import os, sys
import redis

client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
verb, *rest = [word for word in sys.argv[1:] if not word.startswith("--")]
if "--scan" in sys.argv:
    print("\\n".join(client.scan_iter(verb)))
elif verb.endswith("SUBSCRIBE"):
    pubsub = client.pubsub()
    getattr(pubsub, verb.lower())(*rest)
    for message in pubsub.listen():
        print(message["data"], flush=True)
else:
    print(client.execute_command(verb, *rest))
"""


@pytest.fixture
async def reader(own_valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The environment in which a reader types them."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "redis-cli").write_text(REDIS_CLI.format(python=sys.executable))
    (tools / "redis-cli").chmod(0o755)
    with devcluster(tmp_path) as kubeconfig:
        path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "REDIS_URL": own_valkey.url, "KUBECONFIG": str(kubeconfig)}
        parts = Parts({**environment, "NAMESPACES": "*"}, tmp_path)
        try:
            await parts.controller()
            yield environment
        finally:
            parts.stop()


async def tell_of_eval_42(teller: Teller) -> None:
    """Two Jobs, the second with two attempts."""
    for created, (job, pods) in enumerate((("eval-42-first-try", "a"), ("eval-42", "ab"))):
        of = JobRef("default", job, f"uid-of-{job}")
        await teller.tell(event("running", "eval-42", job=of), created=created)
        keeper = LogKeeper(teller.ledger, of, "eval-42")
        for pod in pods:
            log = await keeper.keep(b"7\n", pod, "main")
        if pod == "b":
            await keeper.keep(b"no\n", pod, "agent")
        attempts = [Attempt(pod=pod, container="main") for pod in pods]
        await teller.tell(event("completed", "eval-42", job=of, log=log, attempts=attempts), created=created)


def leave_work_of_a_handler(valkey: ValkeyServer) -> None:
    """A dead letter, and something to replay."""
    with redis.Redis(port=valkey.port, decode_responses=True) as client:
        stage = Stage(client, "evaluation")
        stage.announce("mine.score", age=-3600)  # no worker announces it again while the commands run
        stage.bury(at="1795168800000-0")
        stage.tell(event("failed", "eval-43"), entry=ago(1))


@pytest.mark.timeout(300)  # a dozen starts of Python, two of them whole parts
async def test_every_command_does_what_a_reader_expects(
    reader: dict[str, str], own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    lines = left_over()
    assert len(lines) > 20
    (tmp_path / "held.json").write_text(json.dumps(HELD))
    leave_work_of_a_handler(own_valkey)
    async with telling_to(own_valkey.url, "evaluation") as teller:
        await tell_of_eval_42(teller)
        await run("kubectl create -f held.json", reader, tmp_path, teller)
        (tmp_path / "plain.py").write_text(PLAIN)
        (tmp_path / "plain.json").write_text(json.dumps([line for line in lines if is_plain(line)]))
        await run("python plain.py < plain.json", reader, tmp_path, teller)
        for line in lines:
            if not is_plain(line):
                await run(line, reader, tmp_path, teller)


def is_plain(line: str) -> bool:
    """Whether it is a call of `jobcast` that needs no shell."""
    words = shlex.split(line, comments=True)
    return words[0] == "jobcast" and not line.startswith(ENDLESS) and not {">", "|", "&&", "||"} & set(words)


async def run(line: str, environment: dict[str, str], folder: Path, teller: Teller) -> None:
    """To its end, or until it shows an event. Fails with its output."""
    said = folder / "said"
    with said.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"set -euo pipefail\n{line}"),
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        if not line.startswith(ENDLESS):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LONGEST_SECONDS)
            assert (code := process.returncode) == 0, f"{line}\nended with {code}:\n{said.read_text()}"
            return
        while "eval-" not in said.read_text():
            assert process.returncode is None, f"{line}\nended:\n{said.read_text()}"
            await teller.tell(event("failed", f"eval-{uuid.uuid4().hex[:8]}", metadata={"pipeline": "nightly"}))
            await asyncio.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def test_pages_that_have_a_test_of_their_own_are_named_in_it() -> None:
    for page, test in WHOLE.items():
        if (ROOT / page).exists():
            assert Path(page).name in (ROOT / test).read_text()


def test_a_command_that_does_not_work_is_found() -> None:
    page = "Text:\n\n    jobcast get eval-7   # why\n\n```yaml\nnot: me\n```\n```sh\na \\\n  b\n# no\n```\n- item\n\n    not me\n"
    assert commands(page) == ["jobcast get eval-7   # why", "a b"]
