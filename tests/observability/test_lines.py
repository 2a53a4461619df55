"""The logs of both parts: JSON lines of constant text, and one for each change of state of a Job."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.observability.running import TOLD, Running

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
ELSEWHERE = ROOT / "jobcast" / "client"
"""Runs in programs of others, whose format of a line may show nothing but its text."""


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, dict[str, ast.expr | None]]]:
    """Calls that write a line of the log, and the annotations of the parameters of the function that they are in."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        parameters = {one.arg: one.annotation for one in node.args.args}
        for call in ast.walk(node):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in LEVELS
                and isinstance(call.func.value, ast.Name)
                and call.func.value.id in ("log", "logger")
            ):
                yield call, parameters


def is_constant(call: ast.Call, parameters: dict[str, ast.expr | None]) -> bool:
    """One text and nothing to put into it; or a parameter of which the type checker knows that it is one of a few."""
    if len(call.args) != 1:
        return False
    (text,) = call.args
    if isinstance(text, ast.Name):
        annotation = parameters.get(text.id)
        return isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal"
    return isinstance(text, ast.Constant) and isinstance(text.value, str) and "%" not in text.value


def test_no_line_has_data_in_its_text() -> None:
    found = 0
    for room in ("jobcast", "controller", "worker"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if ELSEWHERE in path.parents:
                continue
            for call, parameters in calls(ast.parse(path.read_text())):
                found += 1
                assert is_constant(call, parameters), f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}"
    assert found > 40, "it looks at all of them"


@pytest.mark.parametrize(
    "code", ['log.info(f"told {a}")', 'log.info("told %s", a)', 'log.info("told " + a)', "log.info(a)", "log.info(b)"]
)
def test_data_in_a_text_is_found(code: str) -> None:
    ((call, parameters),) = calls(ast.parse(f"def f(b: str):\n    {code}"))
    assert not is_constant(call, parameters)


def test_each_change_of_state_is_one_line_of_the_controller(parts: Running) -> None:
    told = [line for line in parts.records(parts.controller) if line["event"] == "told"]
    assert {line["level"] for line in told} == {"info"}
    assert all(line["uid"] and line["job"] == f"default/{line['eval_id']}" for line in told)
    for name, statuses in TOLD.items():
        assert [line["status"] for line in told if line["eval_id"] == name] == statuses
    (failed,) = [line for line in told if line["status"] == "failed"]
    assert (failed["exit_code"], failed["reason"]) == (3, "BackoffLimitExceeded")


def test_every_line_is_json_of_time_level_and_text_without_a_name_in_it(parts: Running) -> None:
    for part in (parts.controller, parts.worker):
        for line in parts.records(part):
            assert line["time"].endswith("Z")
            assert line["level"] in LEVELS
            assert not [name for name in TOLD if name in line["event"]]


def test_the_worker_introduces_itself_in_a_line_and_not_with_a_banner(parts: Running) -> None:
    (line,) = [line for line in parts.records(parts.worker) if line["event"] == "worker starting"]
    assert line["handlers"] == ["life_handlers.score", "life_handlers.explain"]
    assert (line["pool"], line["concurrency"]) == ("prefork", 2)
