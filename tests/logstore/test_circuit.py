"""One log waits for a store that is away, and not every one."""

import pytest

from jobcast.logstore import REFUSED, UNAVAILABLE, LogStoreError
from jobcast.logstore.circuit import RETRY_SECONDS, SILENT_SECONDS, CircuitBreaker

AWAY = LogStoreError(UNAVAILABLE, "away")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_store_is_asked_until_it_is_away(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    breaker.check()
    breaker.record(LogStoreError(REFUSED, "no"))  # it answers; asking again costs nobody anything
    breaker.check()
    breaker.record(AWAY)
    with pytest.raises(LogStoreError, match="away"):
        breaker.check()


def test_one_at_a_time_tries_a_store_that_is_away(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    breaker.record(AWAY)
    clock.now += RETRY_SECONDS
    assert breaker.rejection() is None  # looking is not trying
    breaker.check()  # this one tries
    with pytest.raises(LogStoreError):
        breaker.check()
    clock.now += RETRY_SECONDS  # and was never heard of again
    breaker.check()


def test_a_store_that_answers_is_asked_again_by_all(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    breaker.record(AWAY)
    breaker.record(None)
    breaker.check()
    breaker.check()


def test_a_store_that_says_nothing_to_anybody_is_not_asked_by_more(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    with breaker.request():
        clock.now += SILENT_SECONDS - 0.1
        breaker.check()
        with breaker.request():
            clock.now += 0.1
            with pytest.raises(LogStoreError, match="has not answered for 2 s"):
                breaker.check()
        breaker.record(None)  # it has published one of them
        breaker.check()
        clock.now += SILENT_SECONDS
        with pytest.raises(LogStoreError):
            breaker.check()
    breaker.check()  # nobody waits any more: the next one may ask


def test_a_store_that_nobody_asks_is_not_taken_to_be_silent(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    clock.now += 100
    with breaker.request():
        breaker.check()


def test_giving_up_is_no_answer(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    with breaker.request():
        clock.now += SILENT_SECONDS
        breaker.record(AWAY)
        with pytest.raises(LogStoreError, match="has not answered"):
            breaker.check()
