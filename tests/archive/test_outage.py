"""One log waits for a store that is away, and not every one."""

import pytest

from jobcast.archive import REFUSED, UNAVAILABLE, ArchiveError
from jobcast.archive.outage import TRY_AGAIN_SECONDS, Outage

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
