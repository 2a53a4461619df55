"""Times for people and for programs."""

import pytest

from jobcast.cli.render.times import age, ago, rfc3339


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (9 * 3600, "9h"),
        (3 * 86400, "3d"),
        (3 * 86400 + 7200, "3d2h"),
        (30 * 86400, "30d"),
    ],
)
def test_ages_are_as_kubectl_shows_them(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


def test_times_for_programs_are_rfc_3339() -> None:
    assert rfc3339(1_795_168_800.9) == "2026-11-20T10:00:00Z"


@pytest.mark.parametrize("seconds", [1e300, float("inf"), float("nan")])
def test_what_is_no_time_is_shown_as_it_was_written(seconds: float) -> None:
    assert rfc3339(seconds, "then\x07") == "then\\x07"
    if seconds != 1e300:
        assert ago(seconds, "then\x07") == "then\\x07"
