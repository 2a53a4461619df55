"""Every setting there is, by its model, with nonsense in it: exit code 2 and one readable line for each, and nothing else.

Whoever adds a field adds it here: a number without bounds, or a text that takes anything, fails these tests.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import annotated_types
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from controller.settings import ControllerSettings
from jobcast.service.settings import EXIT_WRONG_SETTINGS, CoreSettings, read
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
ANY = [
    "\x1b[2Jcleared",
    "one\ntwo\r\nthree",
    "bell\x07",
    "\u202eright to left",
    "\udcff\udcfe",  # how bytes that are no text come out of the environment
    "💥",
    "x y",
    "://",
    "=",
    "{}",
    "[1, 2]",
    "'\"`$(id);",
    "../../etc/passwd",
    "-" * 300,
    "é" * 10_000,
    f"ftp://user:{SECRET}@host/0",
    f"ftp://:{SECRET}",
    f"\nredis:/user:{SECRET}@host",
]
"""What no setting can be, whatever its type."""
NUMBERS = [
    "",
    " ",
    "many",
    "-1",
    "1e30",
    "1" + "0" * 400,
    "-" + "9" * 5000,
    "nan",
    "inf",
    "-inf",
    "0x10",
    "1,5",
    "None",
]
OF_TYPE: dict[object, list[str]] = {
    int: [*NUMBERS, "1.5", "true"],
    float: [*NUMBERS, "true"],
    bool: ["", " ", "maybe", "2", "nan"],
    str: ["", " ", "\t\n"],
    Literal: ["", " ", "0", "infoo", "null"],
    tuple: ["fine,two words", "fine,\x00".replace("\x00", "\x01"), "fine,=", "*,*", "-,-"],
}


class Setting(NamedTuple):
    model: type[CoreSettings]
    name: str
    """As an operator writes it."""
    kind: object
    field: FieldInfo

    @property
    def nonsense(self) -> list[str]:
        return [*ANY, *([] if self.is_optional and self.kind is str else OF_TYPE[self.kind])]

    @property
    def is_optional(self) -> bool:
        return type(None) in get_args(self.field.annotation)

    @property
    def bounds(self) -> dict[str, Any]:
        found = {}
        for limit in self.field.metadata:
            if isinstance(limit, annotated_types.Ge):
                found["ge"] = limit.ge
            elif isinstance(limit, annotated_types.Le):
                found["le"] = limit.le
        return found

    def __repr__(self) -> str:
        return f"{self.model.__name__}.{self.name}"


def kind_of(annotation: Any) -> object:
    of = [one for one in get_args(annotation) if one is not type(None)]
    if type(None) in get_args(annotation) and len(of) == 1:
        return kind_of(of[0])
    return get_origin(annotation) or annotation


SETTINGS = [
    Setting(model, name.upper(), kind_of(field.annotation), field)
    for model in (ControllerSettings, WorkerSettings)
    for name, field in model.model_fields.items()
    if model is ControllerSettings or name not in ControllerSettings.model_fields
]
NAMES = [setting.name for setting in SETTINGS]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper() in NAMES:
            monkeypatch.delenv(name)


class Given:
    """An environment of ours for the length of a `with`."""

    def __init__(self, **values: str) -> None:
        self._values = values

    def __enter__(self) -> None:
        os.environ.update(self._values)

    def __exit__(self, *_: object) -> None:
        for name in self._values:
            del os.environ[name]


def refused(model: type[CoreSettings], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The lines by the names they begin with; that they are readable, that they are all, and that nothing leaks is seen here."""
    with pytest.raises(SystemExit) as ended:
        read(model)
    assert ended.value.code == EXIT_WRONG_SETTINGS
    said = capsys.readouterr()
    assert said.out == ""
    return lines_of(said.err)


def lines_of(text: str) -> dict[str, str]:
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    for line in lines:
        assert line.isprintable(), ascii(line)
        assert len(line) < 500
        assert SECRET not in line
        assert "pydantic" not in line
    found = {line.partition(":")[0]: line for line in lines}
    assert len(found) == len(lines), "one line each"
    return found


@pytest.mark.must_survive(36)
@pytest.mark.must_survive(37)
@pytest.mark.parametrize("setting", SETTINGS, ids=repr)
def test_nonsense_in_any_setting_is_refused_in_one_readable_line(
    setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in setting.nonsense:
        with Given(**{setting.name: value}):
            lines = refused(setting.model, capsys)
        assert list(lines) == [setting.name], ascii(value)
        assert len(lines[setting.name]) > len(f"{setting.name}: ") + 15, "it says what would be right"


@pytest.mark.must_survive(36)
@pytest.mark.parametrize("setting", [one for one in SETTINGS if one.kind in (int, float)], ids=repr)
def test_a_number_is_taken_from_its_least_to_its_greatest_and_not_beyond(
    setting: Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = setting.bounds
    for good in (bounds["ge"], bounds["le"]):
        with Given(**{setting.name: str(good)}):
            assert getattr(read(setting.model), setting.name.lower()) == good
    for bad in (bounds["ge"] - 1, bounds["le"] + 1):
        with Given(**{setting.name: str(bad)}):
            assert list(refused(setting.model, capsys)) == [setting.name]


@pytest.mark.must_survive(36)
@pytest.mark.parametrize("setting", [one for one in SETTINGS if one.is_optional and one.kind is str], ids=repr)
@pytest.mark.parametrize("empty", ["", " ", "\n"], ids=repr)
def test_an_optional_text_that_is_empty_is_not_set(setting: Setting, empty: str) -> None:
    with Given(**{setting.name: empty}):
        assert getattr(read(setting.model), setting.name.lower()) is None


EDGES = {
    "REDIS_URL": ["rediss://user:p%40%2Fss@[::1]:1/15?ssl_cert_reqs=none", "redis://h\n", "redis://h?socket_timeout=1"],
    "NAMESPACES": ["", "*", "a" * 63, " a , b ,"],
    "LABEL_SELECTOR": ["a", " app = evaluation ", f"{'a.' * 120}com/x=y"],
    "EVAL_ID_LABEL": ["a", "example.org/id", "a" * 63],
    "METADATA_LABELS": ["", "a,example.org/b"],
    "KEY_PREFIX": ["a", "A.b-_9" * 10],
    "HTTP_HOST": ["::", "127.0.0.1", "localhost", "fe80::1%lo", "0"],
    "LOG_STORE": ["none", "redis", "file:///tmp/logs", "s3://bucket/prefix"],
    "CELERY_BROKER_URL": [
        "redis://:p%40ss@h:1/2",
        "amqp://u:p@h//",
        "amqp://a;amqp://b",
        "redis+sentinel://a:1,b:2/service",
    ],
    "CELERY_RESULT_BACKEND": ["redis://h", "rpc://", "cache+memory://", "disabled"],
    "HANDLERS": ["", "a", "a.b_c,d"],
    "ROUTES": ["", "*=a.b", "completed|failed=a:b@{q}"],
    "ROUTES_FILE": [str(Path(__file__).parents[2] / "examples/existing-celery-app/routes.yaml")],
}
"""What is unusual and right, of the texts and lists."""


@pytest.mark.parametrize("setting", [one for one in SETTINGS if one.kind in (str, tuple)], ids=repr)
def test_what_is_unusual_and_right_is_taken(setting: Setting) -> None:
    for value in EDGES[setting.name]:
        with Given(**{setting.name: value, "SHOP_BROKER_URL": "redis://shop"}):  # the routes name it
            read(setting.model)


@pytest.mark.parametrize("setting", [one for one in SETTINGS if get_origin(one.field.annotation) is Literal], ids=repr)
def test_every_word_there_is_is_taken_in_any_case(setting: Setting) -> None:
    for word in get_args(setting.field.annotation):
        for spelt in (word, f"{word}\n") if setting.name != "LOG_LEVEL" else (word, word.upper(), word.title()):
            with Given(**{setting.name: spelt.strip()}):
                assert getattr(read(setting.model), setting.name.lower()) == word


ENVIRONMENT = st.characters(exclude_characters="\x00", exclude_categories=["Cs"]) | st.characters(
    min_codepoint=0xDC80, max_codepoint=0xDCFF
)


@pytest.mark.must_survive(36)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    chosen=st.dictionaries(
        st.sampled_from(SETTINGS), st.integers(0, 1000) | st.text(ENVIRONMENT, max_size=40), min_size=1, max_size=12
    )
)
def test_several_wrong_ones_at_once_have_a_line_each(
    chosen: dict[Setting, int | str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of any text it is not known whether it makes sense; that it is either taken or named is."""
    values = {
        one.name: value if isinstance(value, str) else one.nonsense[value % len(one.nonsense)]
        for one, value in chosen.items()
    }
    for model in (ControllerSettings, WorkerSettings):
        ours = {name: value for name, value in values.items() if name.lower() in model.model_fields}
        wrong = {one.name for one, value in chosen.items() if isinstance(value, int) and one.name in ours}
        with Given(**ours):
            try:
                read(model)
            except SystemExit:
                said = capsys.readouterr()
                assert said.out == ""
                assert wrong <= set(lines_of(said.err)) <= set(ours)
            else:
                assert not wrong


def test_a_setting_is_named_as_the_operator_wrote_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Given(log_concurrency="x"):
        assert refused(ControllerSettings, capsys) == {
            "log_concurrency": "log_concurrency: 'x': Input should be a valid integer, unable to parse string as an integer"
        }


def test_what_would_be_shown_of_the_settings_themselves_has_no_secret() -> None:
    url = f"redis://:{SECRET}@h"
    with Given(REDIS_URL=url, CELERY_BROKER_URL=url, CELERY_RESULT_BACKEND=url):
        assert SECRET not in f"{read(WorkerSettings)!r} {read(WorkerSettings)}"


@pytest.fixture(params=["controller", "check", "worker", "cli"])
def command(request: pytest.FixtureRequest) -> Iterator[tuple[list[str], list[Setting]]]:
    python = sys.executable
    of_controller = [one for one in SETTINGS if one.model is ControllerSettings]
    of_worker = [one for one in SETTINGS if one.name.lower() in WorkerSettings.model_fields]
    yield {
        "controller": ([python, "-m", "controller"], of_controller),
        "check": ([python, "-m", "controller", "--check"], of_controller),
        "worker": ([python, "-m", "celery", "-A", "worker", "worker"], of_worker),
        "cli": (
            [str(Path(python).parent / "jobcast"), "get", "42"],
            [one for one in SETTINGS if one.name == "REDIS_URL"],
        ),
    }[request.param]


@pytest.mark.must_survive(36)
@pytest.mark.must_survive(37)
def test_a_process_with_nonsense_in_every_setting_names_them_all_and_says_nothing_else(
    command: tuple[list[str], list[Setting]],
) -> None:
    arguments, wrong = command
    kept = {name: value for name, value in os.environ.items() if name.upper() not in NAMES}
    values = {one.name: f"ftp://user:{SECRET}@host\x1b[2J" for one in wrong}
    done = subprocess.run(
        arguments, cwd=ROOT, env={**kept, **values}, capture_output=True, text=True, errors="strict", timeout=60
    )
    assert done.returncode == EXIT_WRONG_SETTINGS
    assert done.stdout == ""
    assert sorted(lines_of(done.stderr.removeprefix("jobcast: "))) == sorted(values)
