"""What an operator can do wrong: a line that names it, the right exit code, no traceback, no secret."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import redis
from typer.testing import CliRunner

from jobcast.cli.app import app
from testbed.ports import free_port
from testbed.valkey import ValkeyServer

Run = Callable[..., "subprocess.CompletedProcess[str]"]
COMMANDS = [["watch"], ["watch", "--since", "0"], ["get", "42"], ["wait", "42"], ["logs", "42"]]
COMMANDS += [
    ["list"],
    ["get"],
    ["wait", "-l", "a=b"],
    ["logs", "a", "b"],
    ["lag"],
    ["lag", "--watch"],
    ["replay", "42"],
    ["replay", "--since", "2h"],
    ["dead", "list"],
]
COMMANDS += [["dead", "show", "1-1"], ["dead", "replay", "--all"], ["dead", "drop", "1-1", "--yes"]]
OPERATORS = ["replay", "lag", "dead list", "dead show", "dead replay", "dead drop"]


def complaint(result: "subprocess.CompletedProcess[str]", code: int) -> str:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("jobcast: ")
    assert result.stderr.count("\n") == 1
    assert "s3cret" not in result.stderr
    return result.stderr.removeprefix("jobcast: ").rstrip("\n")


@pytest.mark.must_survive(36)
@pytest.mark.must_survive(37)
@pytest.mark.parametrize(
    "url", ["http://:s3cret@localhost", "redis://user:s3cret/x@localhost:6379/0", "redis://:s3cret@localhost?no=1", ""]
)
def test_a_wrong_url_is_code_2_and_names_its_setting_and_not_its_password(run: Run, url: str) -> None:
    """More of them in tests/client/test_get.py, where no process has to start."""
    assert complaint(run("get", "42", REDIS_URL=url), 2).startswith("REDIS_URL: ")


def test_a_wrong_url_given_as_an_option_is_code_2_and_names_the_option(run: Run) -> None:
    assert complaint(run("get", "42", "--redis-url", "http://:s3cret@localhost"), 2).startswith("--redis-url: ")


def test_a_wrong_prefix_is_code_2_and_names_its_setting(run: Run) -> None:
    assert complaint(run("get", "42", KEY_PREFIX="a b"), 2).startswith("KEY_PREFIX: 'a b' is not a prefix")
    assert complaint(run("get", "42", "--prefix", ""), 2).startswith("--prefix: '' is not a prefix")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["watch", "--status", "finished"], "--status: 'finished' is not a status; use running,"),
        (["watch", "--since", "yesterday"], "--since: 'yesterday' is not a time; use a duration"),
        (["wait", "42", "--timeout", "nan"], "--timeout: 'nan' is not a duration; use"),
        (["wait", "42", "--timeout", "soon"], "--timeout: 'soon' is not a duration; use"),
        (["wait"], "EVAL: give evaluation ids, or --label\n".strip()),
        (["logs", "42", "-l", "a=b"], "EVAL: give evaluation ids, or --label; not both"),
        (["wait", "-l", "a"], "--label: 'a' is not NAME=VALUE"),
        (["list", "--status", "finished"], "--status: 'finished' is not a status; use pending, running,"),
        (["list", "--since", "yesterday"], "--since: 'yesterday' is not a time"),
        (["list", "-n", "A_B"], "--namespace: namespace='A_B'"),
        (["get", "-l", "a=b,c"], "--label: 'c' is not NAME=VALUE"),
        (["list", "-o", "wide", "--json"], "--json: it excludes -o wide"),
        (["logs", "a", "b", "--job", "x"], "--job: it needs exactly one evaluation id"),
        (["logs", "a", "-f", "--attempt", "1"], "--follow: it shows all attempts"),
        (["wait", "42", "--timeout", "-1"], "--timeout: '-1' is not a duration; use"),
    ],
)
def test_a_wrong_option_is_code_2_and_named(run: Run, arguments: list[str], said: str) -> None:
    assert complaint(run(*arguments), 2).startswith(said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["list", "-o", "yaml"],
        ["list", "--limit", "-1"],
        ["watch", "--wrong"],
        ["logs", "42", "--attempt", "0"],
    ],
)
def test_wrong_usage_is_code_2_without_a_traceback(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.must_survive(37)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_redis_that_cannot_be_reached_at_the_start_is_code_1_and_a_line(call: Run, arguments: list[str]) -> None:
    port = free_port()
    said = complaint(call(*arguments, REDIS_URL=f"redis://user:s3cret@127.0.0.1:{port}/3"), 1)
    assert said.startswith(f"Redis at 127.0.0.1:{port}, database 3: ")


@pytest.mark.must_survive(27)
@pytest.mark.must_survive(37)
@pytest.mark.parametrize("arguments", [["watch"], ["wait", "42"]], ids=" ".join)
def test_a_wrong_password_is_code_1_and_a_line(run: Run, own_valkey: ValkeyServer, arguments: list[str]) -> None:
    with redis.Redis(port=own_valkey.port) as client:
        client.config_set("requirepass", "right")
    said = complaint(run(*arguments, REDIS_URL=own_valkey.url.replace("//", "//:s3cret@")), 1)
    assert "password" in said
    assert "password" in complaint(run(*arguments, REDIS_URL=own_valkey.url), 1)


@pytest.mark.parametrize("command", ["list", "watch", "get", "logs", "wait", "finalizers", "demo", *OPERATORS])
def test_help_has_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"Example: jobcast {command}" in result.output


def test_help_shows_no_secret(run: Run) -> None:
    result = run("watch", "--help", REDIS_URL="redis://:s3cret@localhost")
    assert (result.returncode, result.stderr) == (0, "")
    assert "--redis-url" in result.stdout
    assert "s3cret" not in result.stdout


def test_the_demo_without_a_checkout_says_so() -> None:
    code = "import sys; sys.modules['demo'] = None; sys.argv[1:] = ['demo']; from jobcast.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert complaint(result, 1).startswith("the demo needs a checkout of Jobcast")
