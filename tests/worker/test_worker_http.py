"""Probes, metrics and the log: what an operator sees of a worker."""

import json
import logging
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from workers import Worker

from worker.http import PortTaken, Probe
from worker.log import Formatter
from worker.settings import WorkerSettings


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe("127.0.0.1", 0)
    probe.start()
    yield probe
    probe.stop()


def get(probe: Probe, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{probe.port}{path}", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.must_survive(35)
def test_livez_names_what_is_wrong(probe) -> None:
    ailments: dict[str, str | None] = {"bridge": None, "sweep": None}
    for name in ailments:
        probe.watch(name, lambda name=name: ailments[name])
    assert get(probe, "/livez") == (200, "ok\n")
    ailments["bridge"] = "no round for 99 s"
    assert get(probe, "/livez") == (503, "bridge: no round for 99 s\n")
    assert get(probe, "/other")[0] == 404


def test_metrics_have_the_promised_names(probe) -> None:
    text = get(probe, "/metrics")[1]
    for name in (
        "stream_lag gauge",
        "handler_seconds histogram",
        "sweep_seconds histogram",
        "sweep_found_total counter",
        "dead_letters_total counter",
        "build_info gauge",
    ):
        assert f"# TYPE jobcast_{name}" in text


def test_a_port_that_is_taken_says_which() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"{port}: cannot listen on 127.0.0.1: Address already in use"):
            Probe("127.0.0.1", port)


@pytest.mark.must_survive(36)
def test_a_worker_whose_port_is_taken_ends_with_code_2_and_one_line(valkey, tmp_path: Path) -> None:
    worker = Worker(valkey.url, tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", worker.port))
        taken.listen()
        worker.start()
        assert worker.process is not None
        assert worker.process.wait(20) == 2
    assert f"WORKER_HTTP_PORT: {worker.port}: cannot listen" in worker.log
    assert "Traceback" not in worker.log


@pytest.mark.must_survive(37)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_password_never_reaches_a_line(as_json) -> None:
    settings = WorkerSettings(redis_url="redis://:s3cr%2Ft@here:1/0", celery_broker_url="amqp://user:hunter2@there")
    formatter = Formatter(settings, as_json=as_json)
    try:
        raise ValueError("no: s3cr/t")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "at %s", ("amqp://user:hunter2@there",), None)
        record.exc_info = (ValueError, error, error.__traceback__)
    record.__dict__["broker"] = "hunter2 s3cr%2Ft"
    line = formatter.format(record)
    assert "hunter2" not in line
    assert "s3cr" not in line
    assert "***" in line


def test_a_line_is_constant_text_and_fields() -> None:
    formatter = Formatter(WorkerSettings(), as_json=True)
    record = logging.makeLogRecord({"name": "worker.bridge", "levelname": "INFO", "msg": "took over", "count": 3})
    line = json.loads(formatter.format(record))
    assert (line["event"], line["count"], line["level"], line["logger"]) == ("took over", 3, "info", "worker.bridge")
