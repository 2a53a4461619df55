"""The logs of both parts: JSON lines of constant text, and one for each change of state of a Job."""

import ast
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobcast.event import log_fields
from jobcast.service.logging import Formatter
from jobcast.wire import decode
from tests.observability.running import PUBLISHED, Running
from worker import metrics, sweep

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
    "code",
    [
        'log.info(f"published {a}")',
        'log.info("published %s", a)',
        'log.info("published " + a)',
        "log.info(a)",
        "log.info(b)",
    ],
)
def test_data_in_a_text_is_found(code: str) -> None:
    ((call, parameters),) = calls(ast.parse(f"def f(b: str):\n    {code}"))
    assert not is_constant(call, parameters)


def test_each_change_of_state_is_one_line_of_the_controller(parts: Running) -> None:
    published = [line for line in parts.records(parts.controller) if line["event"] == "published"]
    assert {line["level"] for line in published} == {"info"}
    assert all(line["uid"] and line["job"] == f"default/{line['eval_id']}" for line in published)
    for name, statuses in PUBLISHED.items():
        assert [line["status"] for line in published if line["eval_id"] == name] == statuses
    (failed,) = [line for line in published if line["status"] == "failed"]
    assert (failed["exit_code"], failed["reason"]) == (3, "BackoffLimitExceeded")


def test_every_line_is_json_of_time_level_and_text_without_a_name_in_it(parts: Running) -> None:
    for part in (parts.controller, parts.worker):
        for line in parts.records(part):
            assert line["time"].endswith("Z")
            assert line["level"] in LEVELS
            assert not [name for name in PUBLISHED if name in line["event"]]


def test_what_python_warns_of_is_a_field_and_not_the_text() -> None:
    record = logging.makeLogRecord(
        {"name": "py.warnings", "levelname": "WARNING", "msg": "/a/b.py:1: UserWarning: odd\n"}
    )
    line = json.loads(Formatter(as_json=True).format(record))
    assert (line["event"], line["warning"]) == ("python warns", "/a/b.py:1: UserWarning: odd")


def test_a_library_that_complains_within_the_controller_does_so_in_json_and_shows_no_secret() -> None:
    code = """
import logging, warnings
from jobcast.service.logging import configure
from controller.settings import ControllerSettings
configure(ControllerSettings(log_format="json", redis_url="redis://:s3cr3t@here:1/0"))
logging.getLogger("asyncio").error("task %s was lost: s3cr3t", "a", extra={"seconds": 3})
logging.getLogger("jobcast.logstore.retention").info("expired logs removed", extra={"count": 2})
logging.getLogger("aiohttp").info("not worth a line")
warnings.warn("odd")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, cwd=ROOT)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("error", "asyncio"),
        ("info", "jobcast.logstore.retention"),
        ("warning", "py.warnings"),
    ]
    assert (lines[0]["event"], lines[0]["message"]) == ("task %s was lost: ***", "task a was lost: ***")
    assert (lines[0]["seconds"], lines[1]["count"]) == (3, 2)


def test_what_the_sweep_publishes_is_the_same_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    event = decode((ROOT / "tests" / "golden" / "failed.json").read_bytes())
    before = metrics.sweep_found._value.get(), metrics.events_by_status[event.status]._value.get()
    sweep.note(event)
    (record,) = caplog.records
    line = json.loads(Formatter(as_json=True).format(record))
    assert (line["level"], line["event"]) == ("info", "published")
    assert {key: line[key] for key in log_fields(event)} == log_fields(event)
    assert {"job", "uid", "status"} <= log_fields(event).keys()
    after = metrics.sweep_found._value.get(), metrics.events_by_status[event.status]._value.get()
    assert [late - early for late, early in zip(after, before, strict=True)] == [1, 1]


def test_the_worker_introduces_itself_in_a_line_and_not_with_a_banner(parts: Running) -> None:
    (line,) = [line for line in parts.records(parts.worker) if line["event"] == "worker starting"]
    assert line["handlers"] == ["life_handlers.score", "life_handlers.explain"]
    assert (line["pool"], line["concurrency"]) == ("prefork", 2)
    (line,) = [line for line in parts.records(parts.worker) if "Connected" in line["event"]]
    assert line["event"] == "Connected to %s"
    assert "127.0.0.1" in line["message"]
