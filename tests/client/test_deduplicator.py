"""An event that comes again is told from one that was not dealt with yet."""

import pytest

from jobcast.client import Deduplicator


def test_an_event_is_new_until_it_was_dealt_with() -> None:
    seen = Deduplicator()
    assert seen.is_new("a")
    assert seen.is_new("a"), "its work may have failed"
    seen.done("a")
    assert not seen.is_new("a")
    assert seen.is_new("b")


def test_what_is_remembered_is_bounded_and_the_latest() -> None:
    seen = Deduplicator(remember=2)
    for one in ("a", "b", "a", "c"):
        seen.done(one)
    assert [seen.is_new(one) for one in ("a", "b", "c")] == [False, True, False]


def test_a_memory_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Deduplicator(remember=0)
