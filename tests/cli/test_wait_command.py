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


async def test_several_are_waited_for_and_the_worst_end_is_the_exit_code(run: Run, teller: Teller) -> None:
    await teller.tell(event("completed", "a"), event("completed", "b"), event("failed", "c"))
    result = run("wait", "a", "b")
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[1:3] for line in result.stdout.splitlines()] == [["completed", "a"], ["completed", "b"]]
    assert run("wait", "a", "c", "-o", "json").returncode == 1


async def test_those_with_a_label_are_waited_for(run: Run, teller: Teller) -> None:
    await teller.tell(event("completed", "a", metadata={"team": "x"}), event("failed", "b", metadata={"team": "y"}))
    result = run("wait", "-l", "team=x")
    assert (result.returncode, result.stdout.split()[1:3]) == (0, ["completed", "a"])
    assert run("wait", "-l", "team in x").returncode == 2
    nothing = run("wait", "-l", "team=z")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (1, "", "jobcast: No evaluations found.\n")


async def test_a_timeout_names_those_that_had_not_ended(run: Run, teller: Teller) -> None:
    await teller.tell(event("completed", "a"))
    result = run("wait", "a", "b", "c", "--timeout", "0.3")
    assert result.returncode == 124
    assert result.stderr == "jobcast: evaluations 'b', 'c' had not ended after 0.3 s\n"
    assert result.stdout.split()[1:3] == ["completed", "a"]


async def test_one_in_another_namespace_is_not_found(run: Run, teller: Teller) -> None:
    await teller.tell(event("completed", "a"))
    assert run("wait", "a", "-n", "evals").returncode == 0
    result = run("wait", "a", "-n", "other")
    assert (result.returncode, result.stderr) == (1, "jobcast: evaluation 'a' not found in namespace other\n")
