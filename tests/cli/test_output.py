"""Text of strangers at a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.cli.output import harmless, harmless_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Grüße 世界 🎉", "plain Grüße 世界 🎉"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b", "\\x1b"),
        ("\x1b[", "\\x1b["),
        ("bell\x07 back\x08", "bell\\x07 back\\x08"),
        ("csi of one byte\x9b31m", "csi of one byte\\x9b31m"),
        ("turned \u202e round", "turned \\u202e round"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x00", "\\x00"),
    ],
)
def test_sequences_go_and_other_controls_are_shown(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text())
def test_nothing_that_moves_a_terminal_is_left(text: str) -> None:
    for line in [harmless(text), *harmless_lines(text)]:
        assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_ends_of_lines_and_tabs_are_kept_in_a_longer_text() -> None:
    assert harmless_lines("a\tb\r\n\x1b[2Jc") == ["a       b", "c"]
