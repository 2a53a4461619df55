"""Wrong settings: exit code 2, one line each, no traceback, no secret."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from workers import ROOT

from jobcast.event import Status
from jobcast.filters import Filter
from jobcast.service.settings import complaints
from worker.app import configuration
from worker.routes import Route
from worker.settings import WorkerSettings


def started(folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "solo"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=30,
    )


CASES = {
    "a module that is not there": ("", "no_such_module", "'no_such_module' cannot be imported: ModuleNotFoundError"),
    "a module that does not compile": ("def", "mine", "'mine' cannot be imported: SyntaxError"),
    "a module that raises": ("1 / 0", "mine", "ZeroDivisionError: division by zero (mine.py, line 1)"),
    "a module that ends the process": ("raise SystemExit('bye')", "mine", "cannot be imported: SystemExit: bye"),
    "a status that does not exist": (
        "from jobcast import on\n@on('done')\ndef f(event): ...",
        "mine",
        "'mine' cannot be imported: ValueError: handler mine.f: 'done': no such status; there are running, suspended,",
    ),
    "a handler that is registered twice": (
        "from jobcast import on\nfor _ in range(2):\n    @on('completed')\n    def f(event): ...",
        "mine",
        "handler mine.f is registered twice",
    ),
    "an option that is not known": (
        "from jobcast import on\n@on('completed', expires=3)\ndef f(event): ...",
        "mine",
        "got an unexpected keyword argument 'expires' (mine.py, line 2)",
    ),
    "an acknowledgement before the end": (
        "from jobcast import on\n@on('completed', acks_late=False)\ndef f(event): ...",
        "mine",
        "handler mine.f: acks_late=False: an event is acknowledged when its handler has ended",
    ),
    "an async function": (
        "from jobcast import on\n@on('completed')\nasync def f(event): ...",
        "mine",
        "handler mine.f must be a plain function, not async",
    ),
    "a lambda": (
        "from jobcast import on\non('completed')(lambda event: None)",
        "mine",
        "mine.<lambda>: a handler must be a function at the top level of its module",
    ),
    "a local function": (
        "from jobcast import on\ndef make():\n    @on('completed')\n    def f(event): ...\nmake()",
        "mine",
        "mine.make.<locals>.f: a handler must be a function at the top level of its module",
    ),
    "a label that no event has": (
        "from jobcast import on\n@on('completed', labels={'team': 'a'})\ndef f(event): ...",
        "mine",
        "mine.f: no event has the label 'team', because METADATA_LABELS does not list it; it lists pipeline",
    ),
    "one file by two names": (
        "from jobcast import on\n@on('completed')\ndef f(event): ...",
        "mine,folder.mine",
        "folder.mine.f and mine.f are one function of one file, imported by two names",
    ),
}


@pytest.mark.must_survive(36)
@pytest.mark.parametrize(("code", "modules", "says"), CASES.values(), ids=CASES)
def test_handlers_that_cannot_be_used_end_the_worker_with_code_2_and_one_line(tmp_path, code, modules, says) -> None:
    (tmp_path / "mine.py").write_text(code + "\n")
    (tmp_path / "folder").symlink_to(tmp_path)
    done = started(tmp_path, HANDLERS=modules)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("HANDLERS: ")
    assert says in line
    assert done.stdout == ""


@pytest.mark.must_survive(36)
def test_a_time_limit_that_the_pool_would_not_keep_ends_the_worker_with_code_2(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("from jobcast import on\n@on('completed', time_limit=1)\ndef f(event): ...\n")
    done = started(tmp_path, HANDLERS="mine")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "HANDLERS: mine.f: time_limit=1 needs processes that can be ended; start the worker with --pool prefork"
    )


@pytest.mark.must_survive(36)
@pytest.mark.must_survive(37)
def test_each_wrong_setting_has_its_line_and_no_secret_is_repeated(tmp_path) -> None:
    done = started(
        tmp_path,
        CELERY_BROKER_URL="ftp://user:hunter2@host/0",
        ROUTES="done=a.b",
        SWEEP_SECONDS="-1",
        HANDLERS="my-handlers",
        WORKER_HTTP_PORT="http",
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        "CELERY_BROKER_URL",
        "HANDLERS",
        "ROUTES",
        "SWEEP_SECONDS",
        "WORKER_HTTP_PORT",
    ]
    assert "hunter2" not in done.stderr


def routes_of(monkeypatch: pytest.MonkeyPatch, text: str) -> tuple[Route, ...]:
    monkeypatch.setenv("ROUTES", text)
    return WorkerSettings().routes


def test_a_route_names_statuses_a_task_and_a_queue(monkeypatch) -> None:
    assert routes_of(monkeypatch, "completed|failed=shop.tasks.invoice@billing, *=audit.note,") == (
        Route(Filter(frozenset({Status.COMPLETED, Status.FAILED})), "shop.tasks.invoice", "billing"),
        Route(Filter(frozenset(Status)), "audit.note", None),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("completed", "'completed' does not parse; write for example"),
        ("completed=", "does not parse"),
        ("done=a.b", "'done': no such status; there are running"),
        ("completed=a.b@", "does not parse"),
        ("*|failed=a.b", "'*': no such status"),
    ],
)
def test_a_wrong_route_is_refused_with_what_would_be_right(monkeypatch, text, says) -> None:
    with pytest.raises(ValidationError) as refused:
        routes_of(monkeypatch, text)
    (line,) = complaints(refused.value)
    assert line.startswith("ROUTES: ")
    assert says in line


def test_two_routes_to_the_same_task_are_refused(monkeypatch) -> None:
    with pytest.raises(ValidationError, match="twice"):
        routes_of(monkeypatch, "completed=a.b@q,failed=a.b@q")


def test_the_broker_is_redis_unless_another_is_named(monkeypatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://there:1/2")
    assert WorkerSettings().broker.url == "redis://there:1/2"
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://rabbit")
    assert WorkerSettings().broker.url == "amqp://rabbit"
    monkeypatch.setenv("CELERY_BROKER_URL", "")
    assert WorkerSettings().broker.url == "redis://there:1/2"


def test_nothing_but_json_is_accepted_or_sent() -> None:
    conf = configuration(WorkerSettings())
    assert conf["accept_content"] == ["json"]
    assert {conf[name] for name in conf if name.endswith("_serializer")} == {"json"}


@pytest.mark.must_survive(36)
@pytest.mark.parametrize(("seconds", "is_right"), [(0, True), (0.01, False), (0.1, True), (31_536_000, True)])
def test_a_poll_without_a_pause_is_refused(seconds, is_right) -> None:
    if is_right:
        assert WorkerSettings(sweep_seconds=seconds).sweep_seconds == seconds
    else:
        with pytest.raises(ValidationError, match=r"0, or at least 0\.1"):
            WorkerSettings(sweep_seconds=seconds)
