"""Text of strangers at a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.cli.render import output
from jobcast.cli.render.output import EscapedLog, escape, escape_lines


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
    assert escape(text) == shown


@given(st.text())
def test_nothing_that_moves_a_terminal_is_left(text: str) -> None:
    for line in [escape(text), *escape_lines(text)]:
        assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_ends_of_lines_and_tabs_are_kept_in_a_longer_text() -> None:
    assert escape_lines("a\tb\r\n\x1b[2Jc") == ["a       b", "c"]


NASTY = (
    "plain\n\x1b[1;31mred\x1b[0m\r\nGrüße 世界 🎉\tx\n\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n"
    "bell\x07\u202e\n\nprogress 1%\rprogress 2%\r\n\x1b[2J"
).encode() + b"\xff\xfe\nno end"
SHOWN = "plain\nred\nGrüße 世界 🎉      x\nalink\nbell\\x07\\u202e\n\nprogress 1%\\rprogress 2%\n\ufffd\ufffd\nno end"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_log_is_escaped_however_it_is_cut_into_chunks(size: int) -> None:
    log = EscapedLog()
    parts = [log.feed(NASTY[at : at + size]) for at in range(0, len(NASTY), size)]
    assert "".join([*parts, log.feed(b"", is_last=True)]) == SHOWN


@pytest.mark.parametrize("longest", [1, 2, 5, 16])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_line_that_is_too_long_to_be_waited_for_is_shown_in_pieces_and_escaped(
    monkeypatch: pytest.MonkeyPatch, longest: int, size: int
) -> None:
    monkeypatch.setattr(output, "LONGEST_LINE", longest)
    log = EscapedLog()
    parts = [log.feed(NASTY[at : at + size]) for at in range(0, len(NASTY), size)]
    shown = "".join([*parts, log.feed(b"", is_last=True)])
    assert shown.replace(" ", "") == SHOWN.replace(" ", "")  # a tab is as wide as its column says


def test_a_line_of_any_length_takes_bounded_memory() -> None:
    log = EscapedLog()
    chunk = b"x" * 100_000
    shown = sum(len(log.feed(chunk)) for _ in range(50))
    assert shown > 50 * 100_000 - 2 * output.LONGEST_LINE
    endless = EscapedLog()
    endless.feed(b"\x1b]")
    shown = sum(len(endless.feed(chunk)) for _ in range(50))
    assert shown > 50 * 100_000 - 2 * output.LONGEST_LINE, "an escape sequence that never ends is not waited for"


@given(st.binary(), st.integers(1, 50))
def test_no_log_moves_a_terminal(data: bytes, size: int) -> None:
    log = EscapedLog()
    parts = [log.feed(data[at : at + size]) for at in range(0, len(data), size)]
    for line in "".join([*parts, log.feed(b"", is_last=True)]).split("\n"):
        assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
