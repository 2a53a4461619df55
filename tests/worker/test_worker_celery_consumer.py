"""What Celery's consumer does about a broker that was lost."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery.bootsteps import CLOSE

from jobcast.handlers import Registry
from worker.app import create_app
from worker.celery_consumer import Consumer
from worker.settings import WorkerSettings

MANY = 12


def a_consumer() -> tuple[Consumer, list[Any]]:
    """One that was not started, and what its loop is to call next."""
    consumer = Consumer.__new__(Consumer)
    soon: list[Any] = []
    consumer.hub = SimpleNamespace(call_soon=soon.append)
    consumer.connection_errors = (ConnectionError,)
    return consumer, soon


@pytest.mark.must_survive(29)
def test_an_acknowledgement_over_a_connection_that_is_closed_by_then_does_not_end_the_worker() -> None:
    consumer, soon = a_consumer()

    def acknowledge(*_: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")

    consumer.call_soon_ack(acknowledge, "logger")
    soon[0]()


def test_an_acknowledgement_that_finds_the_broker_gone_says_so() -> None:
    consumer, soon = a_consumer()

    def acknowledge(*_: Any) -> None:
        raise ConnectionResetError("gone")

    consumer.call_soon_ack(acknowledge, "logger")
    with pytest.raises(ConnectionResetError):
        soon[0]()


@pytest.mark.must_survive(29)
def test_a_broker_that_is_lost_many_times_within_a_second_is_one_that_is_lost(valkey, monkeypatch, caplog) -> None:
    monkeypatch.setattr("worker.celery_consumer.PAUSE_SECONDS", 0)
    app = create_app(WorkerSettings(redis_url=valkey.url), Registry())
    consumer = Consumer(print, app=app, controller=SimpleNamespace(use_eventloop=False, semaphore=None))
    losses = iter(range(MANY))

    def begin(_: Consumer) -> None:
        if next(losses, None) is None:
            consumer.blueprint.state = CLOSE
        else:
            raise ConnectionResetError("lost")

    monkeypatch.setattr(consumer.blueprint, "start", begin)
    consumer.start()
    assert consumer.restart_count == MANY
    assert "Frequent restarts" not in caplog.text
    app.close()
