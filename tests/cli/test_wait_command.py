"""jobcast wait, as a process."""

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from jobcast.wire import encode
from tests.cli.conftest import Process
from tests.cli.terminal import Terminal
from tests.client.telling import Teller, event
from tests.conftest import eventually

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(("end", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1)])
async def test_its_exit_code_is_the_end_that_happened_before(run: Run, teller: Teller, end: str, code: int) -> None:
    await teller.tell(event(end))
    result = run("wait", "42", "--json")
    assert (result.returncode, result.stdout, result.stderr) == (code, encode(event(end)).decode() + "\n", "")


async def test_it_ends_when_the_evaluation_does(
    start: Callable[..., Process], teller: Teller, is_listening: Any
) -> None:
    wait = start("wait", "42")
    await eventually(is_listening)
    await teller.tell(event("running"), event("completed"))
    out, err = await asyncio.to_thread(wait.communicate, timeout=60)
    assert (wait.returncode, err) == (0, "")
    assert "completed  42" in out


def test_it_gives_up_in_time_with_a_code_of_its_own(run: Run) -> None:
    result = run("wait", "42", "--timeout", "0.2")
    assert (result.returncode, result.stdout) == (124, "")
    assert result.stderr == "jobcast: evaluation '42' had not ended after 0.2 s\n"


async def test_at_a_terminal_it_says_what_it_waits_for(environment: dict[str, str], teller: Teller) -> None:
    async with Terminal(environment, "wait", "42") as terminal:
        await terminal.shows("waiting for the end of 42")
        await teller.tell(event("completed"))
        await terminal.shows("completed 42")
        assert "waiting" not in terminal.picture
