"""The times of a log's lines are taken off exactly, an answer that ends early is continued exactly, and its end is proved."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobcast.logs.stamps import Continuation, Differs, Ending, Stamped
from tests.logs.kubelet import PART, Entry, entries, pieces, send, time_of

STAMPS = {"timestamps": "true"}
LAST = {"timestamps": "true", "tailLines": "2"}
LINES = [
    b"",
    b"x",
    b"line",
    b"\r\n",
    b"\n\n",
    b"\x00\xff\xfe",
    b"2026-11-20T10:00:00.000000000Z looks like a time\n",
    b"failed to open log file\n",
    b"unable to retrieve container logs for containerd://abc\n",
    b"y" * PART,
    b"z" * (PART + 5) + b"\n",
    b"same\n",
]
LOGS = st.lists(st.sampled_from(LINES), max_size=14).map(b"".join) | st.binary(max_size=300)
SIZES = st.lists(st.sampled_from([1, 2, 5, 17, 31, 32, 33, 36, 100, 5000]), min_size=1, max_size=6)
STEPS = st.sampled_from([0.0, 0.3, 2.0])
ZONES = st.sampled_from(["Z", "+02:00", "-11:30"])


def take(stamped: Stamped, data: bytes, sizes: list[int]) -> bytes:
    found = b"".join([stamped.feed(chunk) for chunk in pieces(data, sizes)])
    stamped.end()
    return found


def tail(file: list[Entry]) -> Stamped:
    last = Stamped()
    take(last, send(file, LAST), [])
    return last


@pytest.mark.must_survive(17)
@settings(max_examples=300, deadline=None)
@given(log=LOGS, sizes=SIZES, step=STEPS, zone=ZONES)
def test_the_times_of_any_log_in_any_chunks_are_taken_off_exactly(
    log: bytes, sizes: list[int], step: float, zone: str
) -> None:
    file, read = entries(log, step=step, offset=zone), Stamped()
    assert take(read, send(file, STAMPS), sizes) == log
    assert not read.complaint
    assert read.first == (file[0][0] if file else "")
    assert read.compare(tail(file)) is not Ending.OTHER


@pytest.mark.must_survive(38)
@settings(max_examples=300, deadline=None)
@given(log=LOGS, sizes=SIZES, step=STEPS, data=st.data())
def test_a_log_that_is_cut_anywhere_is_not_proved_and_is_continued_exactly(
    log: bytes, sizes: list[int], step: float, data: st.DataObject
) -> None:
    file, read = entries(log, step=step), Stamped()
    sent = send(file, STAMPS)
    cut = data.draw(st.integers(0, len(sent)))
    found = take(read, sent[:cut], sizes)
    assert log.startswith(found)
    assert not read.complaint, "half a time is no error message"
    if found != log:
        assert read.compare(tail(file)) is not Ending.SAME or log[len(found) :].strip(b"yz\n") == b""
    while read.mark.size and found != log:
        known = Continuation(read.mark)
        rest = send(file, STAMPS | {"sinceTime": read.mark.since})
        cut = data.draw(st.integers(0, len(rest)) | st.just(len(rest)))
        read.begin()
        for chunk in pieces(rest[:cut], sizes):
            found += read.feed(known.feed(chunk))
        read.end()
        known.end()
        assert log.startswith(found)
        assert not read.complaint
        if cut == len(rest):
            assert known.is_past
            assert found == log
            break
    if found == log:
        assert read.compare(tail(file)) is not Ending.OTHER


@pytest.mark.must_survive(38)
@settings(max_examples=100, deadline=None)
@given(
    log=LOGS,
    sizes=SIZES,
    words=st.sampled_from(
        [b"failed to try resolving symlinks in path x", b"no", b"failed\nto open", b"2026 is the year"]
    ),
)
def test_a_line_without_a_time_is_not_the_programs(log: bytes, sizes: list[int], words: bytes) -> None:
    read, log = Stamped(), log + b"\n" if log and not log.endswith(b"\n") else log
    assert take(read, send(entries(log), STAMPS) + words, sizes) == log
    assert read.complaint


def test_lines_that_are_missing_are_noticed_and_left_out_only_if_that_is_asked_for() -> None:
    file, read = entries(b"".join(b"%d\n" % number for number in range(40))), Stamped()
    take(read, send(file[:10], STAMPS), [7])
    rest = send(file[20:], STAMPS)
    known = Continuation(read.mark)
    assert b"".join(known.feed(chunk) for chunk in pieces(rest, [50])) == b""
    with pytest.raises(Differs):
        known.end()
    known = Continuation(read.mark, bridges=True)
    assert b"".join(known.feed(chunk) for chunk in pieces(rest, [50])) == rest
    assert known.has_gap


def test_marked_lines_that_have_changed_are_noticed() -> None:
    file, read = entries(b"one\ntwo\n"), Stamped()
    take(read, send(file, STAMPS), [])
    known = Continuation(read.mark)
    with pytest.raises(Differs):
        known.feed(send(entries(b"one\nTwo\n"), STAMPS | {"sinceTime": read.mark.since}))


def test_an_error_message_in_place_of_the_rest_is_one() -> None:
    read = Stamped()
    take(read, send(entries(b"one\ntwo\n"), STAMPS), [])
    known = Continuation(read.mark)
    assert known.feed(b"unable to retrieve container logs for containerd://abc") == b""
    known.end()
    assert known.is_complaint
    assert not known.is_past


def same_time(lines: int) -> list[Entry]:
    """As a runtime that gives all lines of a buffer the same time."""
    return [("2026-11-20T10:00:00.123456789Z", b"same\n")] * lines


@pytest.mark.parametrize(("there", "read_lines"), [(3, 1), (3, 2), (9, 4)])
def test_equal_lines_of_one_time_prove_nothing(there: int, read_lines: int) -> None:
    read = Stamped()
    take(read, send(same_time(read_lines), STAMPS), [])
    assert read.compare(tail(same_time(there))) is not Ending.SAME
    known = Continuation(read.mark)
    assert known.feed(send(same_time(there), STAMPS)) == send(same_time(there - read_lines), STAMPS)


@pytest.mark.parametrize("offset", [0, PART, 3 * PART])
def test_a_long_line_of_one_character_is_proved_by_reading_it_again_only(offset: int) -> None:
    file, read = entries(b"x" * (5 * PART)), Stamped()
    sent = send(file, STAMPS)
    take(read, sent[: len(sent) - offset], [])
    assert read.compare(tail(file)) is (Ending.OTHER if offset == 3 * PART else Ending.SIMILAR)


def test_a_long_line_is_proved_by_its_last_part() -> None:
    file, read = entries(b"x" * (5 * PART) + b"end"), Stamped()
    sent = send(file, STAMPS)
    take(read, sent[:-1], [])
    assert read.compare(tail(file)) is Ending.OTHER
    take(read, sent[-1:], [])
    assert read.compare(tail(file)) is Ending.SAME


@pytest.mark.must_survive(38)
@pytest.mark.parametrize("before", [b"", b"earlier\n"], ids=["alone", "behind another"])
@pytest.mark.parametrize("line", [b"x" * (5 * PART) + b"24\n", b"x" * (5 * PART), b"x" * PART + b"24\n"])
def test_a_long_line_whose_parts_have_one_time_is_proved_by_reading_it_again(before: bytes, line: bytes) -> None:
    """A clock that ticks once in a millisecond gives all parts of a long line the same time."""
    file = entries(before) + [(time_of(1), part) for _, part in entries(line)]
    read = Stamped()
    take(read, send(file, STAMPS), [])
    assert read.compare(tail(file)) is not Ending.OTHER
    short = Stamped()
    take(short, send(file[:-1], STAMPS), [])
    assert short.compare(tail(file)) is not Ending.SAME
