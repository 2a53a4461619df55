"""Moments as people write them."""

import pytest

from jobcast.client.position import after, is_backwards, when

NOW = 1_795_168_800.0  # 2026-11-20T10:00:00Z


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("2h", "1795161600000"),
        ("90s", "1795168710000"),
        ("1d12h", "1795039200000"),
        ("1d2h3m4s", "1795075016000"),
        ("0s", "1795168800000"),
        ("999999999d", "0"),
        ("2026-11-20T10:00:00Z", "1795168800000"),
        ("2026-11-20t10:00:00.123z", "1795168800123"),
        ("2026-11-20 11:30:00+01:30", "1795168800000"),
        ("1970-01-01T00:00:00+01:00", "0"),
        ("0", "0"),
        ("2", "2"),
        ("1795168800000", "1795168800000"),
        ("1795168800000-3", "1795168800000-3"),
        ("18446744073709551615-18446744073709551615", "18446744073709551615-18446744073709551615"),
    ],
)
def test_a_moment_is_a_place_in_the_stream(text: str, place: str) -> None:
    assert when(text).place(NOW) == place


def test_following_begins_with_the_first_entry_of_a_time_and_behind_one_that_is_named() -> None:
    assert when("2h").before(NOW) == f"1795161599999-{2**64 - 1}"
    assert when("999999999d").before(NOW) == "0"
    assert when("1795168800000-3").before(NOW) == "1795168800000-3"


@pytest.mark.parametrize(
    "text",
    [
        *("", "h", "2x", "h2", "1s2h", "-2h", "2 h", "2h\n", "1.5h", "٢h", "yesterday", "$", "5-", "-5", "2026-11-20"),
        *("2026-11-20T10:00:00", "2026-13-20T10:00:00Z", "2026-11-20T25:00:00Z", "0000-01-01T00:00:00Z"),
        *("1795168800", "18446744073709551616"),
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"use a duration \(2h, 90s, 1d12h\), a time"):
        when(text)


@pytest.mark.parametrize(
    ("first", "last", "is_so"),
    [
        ("5", "5", False),
        ("5-3", "5", False),
        ("5", "5-3", False),
        ("5-4", "5-3", True),
        ("5-3", "5-3", False),
        ("6", "5-3", True),
        ("10", "9", True),
    ],
)
def test_a_range_without_anything_in_it_is_known(first: str, last: str, is_so: bool) -> None:
    assert is_backwards(first, last) is is_so


def test_behind_an_entry_nothing_is_left_out() -> None:
    assert (after("5-3"), after(f"5-{2**64 - 1}")) == ("5-4", "6-0")
