"""A password of any characters, quoted in any way, appears in nothing that a process logs, prints or serves."""

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from controller.preflight import check
from controller.settings import ControllerSettings
from jobcast.cli.app import app
from jobcast.redis.connection import check_url, masked
from jobcast.service.logging import formatter_of
from testbed.pages import page
from testbed.ports import free_port
from testbed.valkey import ValkeyServer
from tests.controller.conftest import cluster, wiretap  # noqa: F401 - a cluster that answers
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
HEAD, TAIL = "s3Kr", "t4iL"
PASSWORDS = st.builds(
    lambda middle: HEAD + middle + TAIL,
    st.text("@:/?#[]%&=;,+ \\\"'\n\t\x1bäé€😀{}$`!", max_size=8)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
).filter(lambda password: "\x00" not in password)
QUOTED: dict[str, Callable[[str], str]] = {
    "as it should be": lambda password: quote(password, safe=""),
    "half": lambda password: quote(password, safe="/:!'\"+= "),
    "not at all": lambda password: password,
    "lower case": lambda password: re.sub("%..", lambda found: found[0].lower(), quote(password, safe="")),
}
WRITTEN = st.sampled_from(list(QUOTED))
URLS = st.builds(
    lambda password, how, shape: shape.format(QUOTED[how](password)),
    PASSWORDS,
    WRITTEN,
    st.sampled_from(
        [
            "redis://:{}@127.0.0.1:{{}}/0",
            "redis://user:{}@127.0.0.1:{{}}",
            "redis://127.0.0.1:{{}}?password={}",
            "rediss://:{}@127.0.0.1:{{}}/0?ssl_cert_reqs=none",
            "rediss://127.0.0.1:{{}}/0?ssl_cert_reqs=none&ssl_password={}",
            "redis://:{}@localhost:no",
            "redis:/:{}@localhost",
            "http://:{}@localhost",
            "user:{}://x@localhost",
            " redis://:{}@localhost/db",
        ]
    ),
)
NAMES = {name.upper() for name in (*ControllerSettings.model_fields, *WorkerSettings.model_fields)}


def assert_hidden(said: str) -> None:
    assert HEAD not in said, said
    assert TAIL not in said, said


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def given_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    yield lambda url: monkeypatch.setenv("REDIS_URL", url)


@pytest.mark.must_survive(37)
@settings(max_examples=200)
@given(url=URLS)
def test_a_masked_url_and_an_error_have_no_password(url: str) -> None:
    assert_hidden(masked(url))
    try:
        check_url(url)
    except ValueError as error:
        assert_hidden(str(error))


@pytest.mark.must_survive(37)
@settings(max_examples=200, deadline=None)
@given(password=PASSWORDS, how=WRITTEN, as_json=st.booleans())
@example(password=f'{HEAD}"\\{TAIL}', how="as it should be", as_json=True)
@example(password=f"{HEAD}!/{TAIL}", how="half", as_json=True)
def test_no_line_of_the_worker_has_a_password_however_it_is_written(password: str, how: str, as_json: bool) -> None:
    for url in (f"redis://user:{QUOTED[how](password)}@h", f"redis://h?password={QUOTED[how](password)}"):
        try:
            of = WorkerSettings(redis_url=url)
        except ValueError as error:
            assert_hidden(str(error))
            continue
        formatter = formatter_of(of, as_json=as_json)
        record = logging.makeLogRecord(
            {"msg": f"connecting to {url}", "url": url, "plain": password, "list": [password]}
        )
        try:
            raise RuntimeError(password)
        except RuntimeError as error:
            record.exc_info = (RuntimeError, error, error.__traceback__)
        assert_hidden(formatter.format(record))


@pytest.mark.must_survive(37)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=URLS, is_there=st.booleans())
def test_no_command_for_users_prints_a_password(url: str, is_there: bool, valkey: ValkeyServer) -> None:
    """For a Redis that is down, and for one that rejects the password."""
    url = url.replace("{}", str(valkey.port if is_there else free_port()))
    for arguments in (["get", "42", "--redis-url", url], ["wait", "42", "--timeout", "0", "--redis-url", url]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code in (0, 1, 2, 124)
        assert not isinstance(result.exception, Exception), repr(result.exception)
        assert_hidden(result.output)


@pytest.mark.must_survive(37)
@pytest.mark.usefixtures("cluster")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=URLS, is_there=st.booleans())
async def test_no_finding_of_the_check_has_a_password(url: str, is_there: bool, valkey: ValkeyServer) -> None:
    url = url.replace("{}", str(valkey.port if is_there else free_port()))
    with contextlib.suppress(ValueError), contextlib.redirect_stdout(io.StringIO()) as said:
        await check(ControllerSettings(redis_url=url, namespaces=("evals",)))
        assert "REDIS_URL" in said.getvalue() or "redis" in said.getvalue()
    assert_hidden(said.getvalue())


@pytest.mark.must_survive(37)
@pytest.mark.parametrize("how", QUOTED)
@pytest.mark.parametrize("command", ["controller", "worker"])
async def test_no_process_shows_a_password(
    how: str,
    command: str,
    valkey: ValkeyServer,
    cluster: object,  # noqa: F811
) -> None:
    """In logs, pages and output, when Redis rejects the password, and when the process rejects the URL."""
    port = free_port()
    password = QUOTED[how](f"{HEAD}/@:#?%2f\"'\\ é!{TAIL}")
    environment = {name: value for name, value in os.environ.items() if name.upper() not in NAMES} | {
        "REDIS_URL": f"redis://user:{password}@127.0.0.1:{valkey.port}/0",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
        "WORKER_HTTP_PORT": str(port),
        "LOG_LEVEL": "debug",
        "SWEEP_SECONDS": "0.1",
        "NAMESPACES": "evals",
    }
    arguments = (
        ["-m", "controller"] if command == "controller" else ["-m", "celery", "-A", "worker", "worker", "-P", "solo"]
    )
    process = subprocess.Popen(  # noqa: ASYNC220 - takes milliseconds
        [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        served = await asyncio.to_thread(_served, process, port)
        process.terminate()
        said, _ = await asyncio.to_thread(process.communicate, None, 30)
    finally:
        process.kill()
        process.wait()
    assert said or served
    assert_hidden(said.decode() + served)
    assert_hidden(json.dumps(said.decode()))


def _served(process: "subprocess.Popen[bytes]", port: int) -> str:
    """All pages of the process, once they show the error of Redis; empty if the process ended."""
    import time

    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        pages = [page(port, path)[1] for path in ("/livez", "/readyz", "/statusz", "/metrics")]
        if "jobcast_" in pages[-1] and ("password" in "".join(pages) or pages[1].startswith("404")):
            return "".join(pages)
        time.sleep(0.05)
    return ""
