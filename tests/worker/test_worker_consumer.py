"""What Celery's consumer does about a broker that was lost."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from proxied import proxied
from workers import ONE_AT_A_TIME, Worker

from tests.conftest import until
from worker.consumer import Consumer

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
def test_a_broker_that_is_lost_many_times_within_a_second_is_one_that_is_lost(own_valkey, tmp_path: Path) -> None:
    handler = "@on()\ndef note(event): ...\n"
    with proxied(own_valkey.port) as proxy, Worker(proxy.url, tmp_path, handler, *ONE_AT_A_TIME) as worker:
        until(lambda: worker.get("/readyz")[0] == 200)
        until(lambda: (proxy.cut(), len(worker.said("Connected to %s")) > MANY)[1], 200)
        until(lambda: worker.get("/readyz")[0] == 200)
        assert "Frequent restarts" not in worker.log
