"""Probes, metrics and the log: what an operator sees of a worker."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from workers import ServedProbes, Worker, asked, probing

from jobcast.service.availability import Availability
from jobcast.service.http import PortTaken, ThreadServer
from jobcast.service.logging import formatter_of
from jobcast.service.probes import Probes
from worker import metrics
from worker.log import soften
from worker.pool_metrics import exposition
from worker.settings import WorkerSettings


@pytest.fixture
def probe() -> Iterator[ServedProbes]:
    with probing() as probe:
        yield probe


def test_livez_names_what_is_wrong(probe) -> None:
    reasons: dict[str, str | None] = {"consumer": None, "sweep": None}
    for name in reasons:
        probe.check(name, lambda name=name: reasons[name])
    assert asked(probe, "/livez") == (200, "ok\n")
    reasons["consumer"] = "no round for 99 s"
    assert asked(probe, "/livez") == (503, "consumer: no round for 99 s\n")
    assert asked(probe, "/other")[0] == 404


@pytest.mark.must_survive(27)
def test_readyz_says_what_a_system_that_is_down_says_and_livez_does_not_mind(probe, caplog) -> None:
    caplog.set_level(logging.INFO)
    broker = Availability("broker", metrics.broker_up)
    probe.need("broker", lambda: broker.error)
    assert asked(probe, "/readyz") == (503, "broker: not reached yet\n")
    broker.mark_up()
    assert asked(probe, "/readyz") == (200, "ok\n")
    assert not caplog.records  # that it was reached at all is no news
    for _ in range(3):
        broker.mark_down(redis.ConnectionError("refused"))
        broker.mark_down(redis.ResponseError("Command # 1 (SADD \x06\x16 a) of pipeline caused error: MISCONF no disk"))
        assert metrics.broker_up._value.get() == 0
    code, text = asked(probe, "/readyz")
    assert (code, text.partition(" (")[0]) == (503, "broker: MISCONF no disk")
    assert asked(probe, "/livez") == (200, "ok\n")
    broker.mark_up()
    assert metrics.broker_up._value.get() == 1
    assert [(record.message, record.__dict__["system"]) for record in caplog.records] == [
        ("dependency unreachable, retrying", "broker"),
        ("dependency unreachable, retrying", "broker"),
        ("dependency reachable again", "broker"),
    ]


def test_a_failing_check_makes_a_worker_not_ready_either(probe) -> None:
    probe.check("consumer", lambda: "no round for 99 s")
    assert asked(probe, "/readyz") == (503, "consumer: no round for 99 s\n")


@pytest.mark.must_survive(27)
@pytest.mark.parametrize(("logger", "is_calm"), [("celery.worker.request", True), ("worker.consumer", False)])
def test_what_celery_says_of_a_broker_that_is_down_is_a_warning_in_one_line(logger, is_calm) -> None:
    error = redis.ConnectionError("Connection refused")
    record = logging.makeLogRecord({"name": logger, "levelname": "CRITICAL", "levelno": 50, "msg": "Couldn't ack"})
    record.exc_info = (redis.ConnectionError, error, None)
    assert soften(record)
    line = json.loads(formatter_of(WorkerSettings(), as_json=True).format(record))
    assert line["level"] == ("warning" if is_calm else "critical")
    assert line.get("error") == ("Connection refused" if is_calm else None)
    assert ("traceback" in line) is not is_calm


def test_metrics_have_the_promised_names(probe) -> None:
    text = asked(probe, "/metrics")[1]
    for name in (
        "stream_lag gauge",
        "handler_seconds histogram",
        "sweep_seconds histogram",
        "sweep_found_total counter",
        "dead_letters_total counter",
        "redis_up gauge",
        "broker_up gauge",
        "task_restarts_total counter",
        "build_info gauge",
    ):
        assert f"# TYPE jobcast_{name}" in text


def test_a_port_that_is_taken_says_which() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"{port}: cannot listen on 127.0.0.1: Address already in use"):
            ThreadServer("127.0.0.1", port, Probes(exposition))


@pytest.mark.must_survive(36)
def test_a_worker_whose_port_is_taken_ends_with_code_2_and_one_line(valkey, tmp_path: Path) -> None:
    worker = Worker(valkey.url, tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", worker.port))
        taken.listen()
        worker.start()
        assert worker.process is not None
        assert worker.process.wait(60) == 2
    assert f"WORKER_HTTP_PORT: {worker.port}: cannot listen" in worker.log
    assert "Traceback" not in worker.log


@pytest.mark.must_survive(37)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_password_never_reaches_a_line(as_json) -> None:
    settings = WorkerSettings(redis_url="redis://:s3cr%2Ft@here:1/0", celery_broker_url="amqp://user:hunter2@there")
    formatter = formatter_of(settings, as_json=as_json)
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
    formatter = formatter_of(WorkerSettings(), as_json=True)
    record = logging.makeLogRecord({"name": "worker.consumer", "levelname": "INFO", "msg": "took over", "count": 3})
    line = json.loads(formatter.format(record))
    assert (line["event"], line["count"], line["level"], line["logger"]) == ("took over", 3, "info", "worker.consumer")
