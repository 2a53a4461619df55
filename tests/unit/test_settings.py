"""Settings that make no sense end the process with code 2 and one line that says what would be right."""

import os
from typing import Any

import pytest

from controller.settings import ControllerSettings
from jobcast.service.settings import EXIT_WRONG_SETTINGS, CoreSettings, read, reading_of

NONSENSE = {
    "REDIS_URL": [
        "",
        "redis",
        "http://redis:6379",
        "redis://",
        "redis://host:port",
        "redis://h:1/db",
        "redis://h:99999",
    ],
    "NAMESPACES": ["Team_A", "*,evals", "a b", "-a", "a" * 64],
    "LABEL_SELECTOR": ["", "app=", "a=b,", "a=b c", "(a)"],
    "EVAL_ID_LABEL": [""],
    "KEY_PREFIX": ["", "a b", "{x}", "a:b", "x" * 65],
    "LOG_EXCERPT_BYTES": ["", "many", "255", "-1", "1e99", "16777217", "1.5"],
    "LOG_STORE": ["", "disk", "s3://", "s3://key:secret@bucket", "file://host/folder"],
    "LOG_STORE_LIMIT_BYTES": ["0", "nan", "268435457"],
    "LOG_WAIT_SECONDS": ["-1", "nan", "inf", "soon", "1e30"],
    "LOG_CONCURRENCY": ["0", "1025", "x"],
    "RETENTION_SECONDS": ["0", "59", "week", "31536001"],
    "STREAM_MAX_SECONDS": ["0", "-1", "x"],
    "STREAM_MAX_LENGTH": ["0", "999", "x"],
    "GRACE_SECONDS": ["-1", "nan", "x"],
    "FINALIZER": ["maybe", ""],
    "FINALIZER_MAX_SECONDS": ["0", "-1", "soon", "nan"],
    "LOG_CONTAINERS": ["init", ""],
    "LOG_LEVEL": ["", "loud"],
    "LOG_FORMAT": ["xml", ""],
    "HTTP_PORT": ["-1", "65536", "http"],
}
CASES = [
    (name, value)
    for name, values in NONSENSE.items()
    for value in values
    if (name, value) != ("LABEL_SELECTOR", "app=")
]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*ControllerSettings.model_fields, "http_proxy"]:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


def complaint(capsys: pytest.CaptureFixture[str], kind: type[Any] = ControllerSettings) -> str:
    with pytest.raises(SystemExit) as ended:
        read(kind)
    assert ended.value.code == EXIT_WRONG_SETTINGS
    assert ended.value.__suppress_context__, "a traceback would be shown"
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_the_defaults_are_right() -> None:
    settings = read(ControllerSettings)
    assert (settings.redis_url, settings.label_selector, settings.key_prefix) == (
        "redis://localhost:6379/0",
        "app=evaluation",
        "evaluation",
    )


@pytest.mark.must_survive(36)
@pytest.mark.parametrize(("name", "value"), CASES)
def test_nonsense_is_refused_in_one_line_with_the_settings_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    said = complaint(capsys)
    assert said.startswith(f"{name}: ")
    assert said.count("\n") == 1, "one line"
    assert len(said) < 400
    assert "Traceback" not in said
    assert "pydantic" not in said


def test_each_wrong_setting_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOG_CONCURRENCY", "x")
    monkeypatch.setenv("KEY_PREFIX", "a b")
    monkeypatch.setenv("NAMESPACES", "A")
    lines = complaint(capsys).splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == ["KEY_PREFIX", "LOG_CONCURRENCY", "NAMESPACES"]


def test_every_setting_is_tried_with_nonsense() -> None:
    free = {"HTTP_HOST", "METADATA_LABELS"}  # any text is as good as any other
    assert {name.upper() for name in ControllerSettings.model_fields} - free == set(NONSENSE)


PASSWORD = "hunter2"
URLS = [
    f"http://:{PASSWORD}@redis:6379",
    f"redis://:{PASSWORD}@redis:port",
    f"redis://user:{PASSWORD}@redis:6379/db",
    f"redis://user:pa@{PASSWORD}@redis:x",
    f"redis://user:pa/{PASSWORD}@redis:6379/0",
    f"redis://user:{PASSWORD}/pa@redis:6379/0",
    f"redis://user:{PASSWORD}#pa@redis:6379/0",
    f"redis://user:pa?{PASSWORD}@redis:6379/0",
    f"redis://:{PASSWORD}@",
    f"redis://:{PASSWORD}",
    f"redis://user:{PASSWORD}",
    f"redis://user:{PASSWORD}:6379",
    f"redis:/user:{PASSWORD}@redis:6379",
    f"//user:{PASSWORD}@redis:6379",
    f":{PASSWORD}@redis:6379",
    f"user:{PASSWORD}@redis:6379",
    f"user:pa/{PASSWORD}@redis:6379",
    f"http://user:{PASSWORD}://x@redis:6379",
    f"redis://redis:x/?password={PASSWORD}",
    f"redis://redis:6379/db?password={PASSWORD}&x=1",
    f"redis:6379?password={PASSWORD}",
    f"redis://[::1:{PASSWORD}@redis",
    f" redis://user:{PASSWORD}@redis:x",
    f"'redis://user:{PASSWORD}@redis:6379'",
]


@pytest.mark.must_survive(37)
@pytest.mark.parametrize("url", URLS)
def test_the_password_of_an_url_that_is_refused_is_not_repeated(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    said = complaint(capsys)
    assert said.startswith("REDIS_URL: ")
    assert PASSWORD not in said


def test_what_was_given_is_shown_where_it_is_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "localhost:6379")
    assert "'localhost:6379'" in complaint(capsys)
    monkeypatch.setenv("REDIS_URL", "http://redis:6379/0")
    assert "'http://redis:6379/0'" in complaint(capsys)


LONG = "a" * 63
# What a Kubernetes 1.34 API server answered to a list with each of these.
PARSE = [
    "app=evaluation",
    "a=b,c!=d,e in (x, y),!f,g notin (z),h==i,a.b/c=d, a = b",
    "a",
    "!a",
    "! a",
    "a=",
    "a!=",
    "a in ()",
    "a in (,)",
    "a in (x,,y)",
    "a in(x)",
    "a notin(x)",
    "a in (x),y,z in (b)",
    "a>1",
    "a < 5",
    "in=b",
    "in in (in)",
    "notin",
    "A=B",
    "a_b=c.d_e",
    "a\t=\tb",
    f"{LONG}={LONG}",
    f"{'a.' * 120}com/x=y",
]
DO_NOT_PARSE = [
    "a,",
    ",a",
    "x=y,,z",
    "a in x",
    "a in (x",
    "a in (x y)",
    "a in (x),",
    "a=b c",
    "!a=b",
    "a=b=c",
    "a===b",
    "a>x",
    "a>",
    "a!b",
    "a!",
    "(a)",
    "a=(b)",
    "UPPER/x=1",
    "example..com/a=b",
    "ex_ample.com/a=b",
    "a/b/c=d",
    "/a=b",
    "a/=b",
    "-a=b",
    "a-=b",
    "a=-b",
    "a=b-",
    "a=é",
    "a='b'",
    "a=b;c=d",
    f"{LONG}a=b",
    f"a={LONG}a",
    f"{'a.' * 130}com/x=y",
]


@pytest.mark.parametrize("selector", PARSE)
def test_a_selector_that_the_api_server_accepts_is_accepted(selector: str) -> None:
    assert CoreSettings(label_selector=selector).label_selector == selector


@pytest.mark.must_survive(36)
@pytest.mark.parametrize("selector", DO_NOT_PARSE)
def test_a_selector_that_the_api_server_refuses_is_refused_at_the_start(selector: str) -> None:
    with pytest.raises(ValueError, match="does not parse"):
        CoreSettings(label_selector=selector)


def test_a_long_selector_is_checked_at_once() -> None:
    with pytest.raises(ValueError, match="does not parse"):
        CoreSettings(label_selector="a-" * 50_000)


def test_lists_are_split_trimmed_and_published_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMESPACES", " b, a ,b,, ")
    monkeypatch.setenv("METADATA_LABELS", "pipeline, team")
    settings = CoreSettings()
    assert settings.namespaces == ("b", "a")
    assert reading_of(settings).metadata_labels == ("pipeline", "team")


def test_a_star_is_all_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMESPACES", "*")
    assert CoreSettings().namespaces == ("*",)


def test_levels_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    monkeypatch.setenv("LOG_FORMAT", "Json")
    assert (CoreSettings().log_level, CoreSettings().log_format) == ("warning", "json")


def test_the_environment_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "KEY_PREFIX", "later")
    assert read(CoreSettings).key_prefix == "later"


def test_only_redis_limits_the_size_of_a_log() -> None:
    settings = CoreSettings(log_store="s3://bucket", log_store_limit_bytes=1 << 40)
    assert settings.log_store_limit_bytes == 1 << 40
    assert CoreSettings(log_store_limit_bytes=268_435_456).log_store == "redis"
