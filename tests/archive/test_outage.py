"""One log waits for a store that is away, and not every one."""

import pytest

from jobcast.logstore import REFUSED, UNAVAILABLE, ArchiveError
from jobcast.logstore.circuit import SILENT_SECONDS, TRY_AGAIN_SECONDS, Outage

AWAY = ArchiveError(UNAVAILABLE, "away")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_store_is_asked_until_it_is_away(clock: Clock) -> None:
    outage = Outage(clock)
    outage.check()
    outage.note(ArchiveError(REFUSED, "no"))  # it answers; asking again costs nobody anything
    outage.check()
    outage.note(AWAY)
    with pytest.raises(ArchiveError, match="away"):
        outage.check()


def test_one_at_a_time_tries_a_store_that_is_away(clock: Clock) -> None:
    outage = Outage(clock)
    outage.note(AWAY)
    clock.now += TRY_AGAIN_SECONDS
    assert outage.away() is None  # looking is not trying
    outage.check()  # this one tries
    with pytest.raises(ArchiveError):
        outage.check()
    clock.now += TRY_AGAIN_SECONDS  # and was never heard of again
    outage.check()


def test_a_store_that_answers_is_asked_again_by_all(clock: Clock) -> None:
    outage = Outage(clock)
    outage.note(AWAY)
    outage.note(None)
    outage.check()
    outage.check()


def test_a_store_that_says_nothing_to_anybody_is_not_asked_by_more(clock: Clock) -> None:
    outage = Outage(clock)
    with outage.asking():
        clock.now += SILENT_SECONDS - 0.1
        outage.check()
        with outage.asking():
            clock.now += 0.1
            with pytest.raises(ArchiveError, match="has not answered for 2 s"):
                outage.check()
        outage.note(None)  # it has published one of them
        outage.check()
        clock.now += SILENT_SECONDS
        with pytest.raises(ArchiveError):
            outage.check()
    outage.check()  # nobody waits any more: the next one may ask


def test_a_store_that_nobody_asks_is_not_taken_to_be_silent(clock: Clock) -> None:
    outage = Outage(clock)
    clock.now += 100
    with outage.asking():
        outage.check()


def test_giving_up_is_no_answer(clock: Clock) -> None:
    outage = Outage(clock)
    with outage.asking():
        clock.now += SILENT_SECONDS
        outage.note(AWAY)
        with pytest.raises(ArchiveError, match="has not answered"):
            outage.check()
