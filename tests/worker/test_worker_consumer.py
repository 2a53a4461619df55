"""What Celery's consumer does about a broker that was lost."""

from types import SimpleNamespace
from typing import Any

import pytest

from worker.consumer import Consumer


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
