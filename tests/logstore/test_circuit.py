"""While a store is down, one log at a time waits for it."""

import pytest

from jobcast.logstore import REFUSED, UNAVAILABLE, LogStoreError
from jobcast.logstore.circuit import RETRY_SECONDS, SILENT_SECONDS, CircuitBreaker

DOWN = LogStoreError(UNAVAILABLE, "down")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_store_gets_requests_until_it_is_down(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    breaker.check()
    breaker.record(LogStoreError(REFUSED, "no"))  # the store answers: further requests do not wait
    breaker.check()
    breaker.record(DOWN)
    with pytest.raises(LogStoreError, match="down"):
        breaker.check()


def test_one_request_at_a_time_tries_a_store_that_is_down(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    breaker.record(DOWN)
    clock.now += RETRY_SECONDS
    assert breaker.rejection() is None  # a look is no attempt
    breaker.check()  # this one may try
    with pytest.raises(LogStoreError):
        breaker.check()
    clock.now += RETRY_SECONDS  # and its attempt never ended
    breaker.check()


def test_a_store_that_answers_gets_all_requests_again(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    breaker.record(DOWN)
    breaker.record(None)
    breaker.check()
    breaker.check()


def test_a_silent_store_gets_no_more_requests(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    with breaker.request():
        clock.now += SILENT_SECONDS - 0.1
        breaker.check()
        with breaker.request():
            clock.now += 0.1
            with pytest.raises(LogStoreError, match="has not answered for 2 s"):
                breaker.check()
        breaker.record(None)  # one of the requests was answered
        breaker.check()
        clock.now += SILENT_SECONDS
        with pytest.raises(LogStoreError):
            breaker.check()
    breaker.check()  # no request is pending: the next one may try


def test_a_store_without_requests_is_not_silent(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    clock.now += 100
    with breaker.request():
        breaker.check()


def test_a_timeout_is_not_an_answer(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    with breaker.request():
        clock.now += SILENT_SECONDS
        breaker.record(DOWN)
        with pytest.raises(LogStoreError, match="has not answered"):
            breaker.check()
