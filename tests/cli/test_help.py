"""What the command says of itself: help, examples, version, completion."""

import shlex
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

import jobcast
from jobcast.cli.app import app
from testbed.ports import free_port
from tests.cli.conftest import JOBCAST
from tests.cli.operating import Stage

Call = Callable[..., "subprocess.CompletedProcess[str]"]


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands that do something, with how they are called."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from leaves(one, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app), ("jobcast",)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_ends_with_an_example_that_the_command_takes(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    heading, _, example = (command.epilog or "").partition(": ")
    assert heading == "Example"
    lexer = shlex.shlex(example, posix=True, punctuation_chars=True)
    words = list(lexer)
    shell = next((at for at, word in enumerate(words) if set(word) <= set("|&;<>()")), len(words))
    assert tuple(words[: len(path)]) == path
    with command.make_context(path[-1], words[len(path) : shell]):
        pass  # it would have failed


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    for parameter in COMMANDS[path].params:
        assert getattr(parameter, "help", None), f"{parameter.name} of {' '.join(path)}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_takes_no_word_for_markup(call: Call, path: tuple[str, ...]) -> None:
    words = (COMMANDS[path].help or "").replace("\\[", "[").split()
    shown = call(*path[1:], "--help", COLUMNS="200").stdout.split()
    assert [word for word in words if word not in shown] == []


def test_it_says_which_version_it_is(call: Call) -> None:
    assert call("--version").stdout == f"jobcast {jobcast.__version__}\n"


def completed(environment: dict[str, str], line: str, **more: str) -> list[str]:
    """What bash would offer for the last word."""
    asked = {"_JOBCAST_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = subprocess.run([JOBCAST], capture_output=True, text=True, env=environment | asked | more, timeout=90)
    assert result.stderr == ""
    return [word for word in result.stdout.split("\n") if word]


def test_evaluations_are_completed_the_latest_first(environment: dict[str, str], stage: Stage) -> None:
    stage.client.zadd(stage.keys.index, {"eval-1": 3, "other": 2, "eval-2": 1, "eval-\x1b[2J": 4})
    assert completed(environment, "jobcast get eval") == ["eval-1", "eval-2"]
    assert completed(environment, "jobcast wait eval-1 eval") == ["eval-2"]
    assert completed(environment, "jobcast replay eval") == ["eval-1", "eval-2"]


def test_nothing_is_completed_where_redis_is_down_or_wrong(environment: dict[str, str]) -> None:
    assert completed(environment, "jobcast wait e", REDIS_URL=f"redis://127.0.0.1:{free_port()}") == []
    assert completed(environment, "jobcast wait e", REDIS_URL="http://nonsense") == []
