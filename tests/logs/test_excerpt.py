"""The excerpt is really the head and the tail, whatever the log is and however its bytes come in."""

import hashlib
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.jobs.facts import unavailable
from jobcast.logs.excerpt import Excerpt

LEFT_OUT = re.compile(r"\n\[\.\.\. (\d+) bytes left out \.\.\.\]\n")


def fed(limit: int, *chunks: bytes) -> Excerpt:
    excerpt = Excerpt(limit)
    for chunk in chunks:
        excerpt.feed(chunk)
    return excerpt


def in_chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


def parts(excerpt: Excerpt) -> tuple[str, int, str]:
    head, left_out, tail = LEFT_OUT.split(excerpt.text())
    return head, int(left_out), tail


@pytest.mark.must_survive(17)
@pytest.mark.parametrize(
    "data", [b"", b"x", b"a\nb\n", b"\n" * 256, "é€😀".encode() * 28, b'{"a": 1}', b"x" * 256, b"x" * 255]
)
def test_a_short_log_is_shown_exactly(data: bytes) -> None:
    excerpt = fed(256, data)
    assert (excerpt.text(), excerpt.is_cut, excerpt.size) == (data.decode(), False, len(data))


@pytest.mark.parametrize("limit", [256, 257, 1001])
def test_a_log_as_long_as_the_limit_is_whole_and_one_byte_more_is_not(limit: int) -> None:
    assert fed(limit, b"x" * limit).text() == "x" * limit
    over = fed(limit, b"x" * (limit + 1))
    assert over.is_cut
    head, left_out, tail = parts(over)
    assert (left_out, len(head) + len(tail)) == (1, limit)


def test_a_long_log_is_cut_at_line_ends() -> None:
    lines = [f"line {n:04}\n".encode() for n in range(1000)]
    head, left_out, tail = parts(fed(1024, *lines))
    assert head.splitlines() == [line.decode().rstrip() for line in lines[: len(head.splitlines())]]
    assert tail.splitlines() == [line.decode().rstrip() for line in lines[-len(tail.splitlines()) :]]
    assert left_out == 10_000 - len(head) - 1 - len(tail)
    assert len(head) > 1024 * 3 // 8
    assert len(tail) > 1024 * 3 // 8


def test_the_left_out_and_the_shown_bytes_make_the_whole() -> None:
    data = b"".join(b"%d\n" % n for n in range(5000))
    head, left_out, tail = parts(fed(512, data))
    assert len(head) + 1 + left_out + len(tail) == len(data)


@pytest.mark.parametrize("character", ["é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_a_character_is_never_split(character: str, shift: int) -> None:
    data = b"x" * shift + character.encode() * 500
    head, _, tail = parts(fed(256, data))
    assert "�" not in head + tail
    assert set(head) <= {"x", character}
    assert set(tail) == {character}


def test_bytes_that_are_not_utf8_are_replaced_and_counted_exactly() -> None:
    data = b"ok \xff\xfe\x80 \xc3\x28 end"
    excerpt = fed(256, data)
    assert excerpt.text().startswith("ok ���")
    assert excerpt.text().endswith("( end")
    assert (excerpt.size, excerpt.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.must_survive(18)
def test_one_line_of_fifty_megabytes_takes_no_more_memory_than_the_limit() -> None:
    chunk, limit = b"x" * 65_536, 65_536
    tracemalloc.start()
    try:
        excerpt = Excerpt(limit)
        for _ in range(50 * 16):
            excerpt.feed(chunk)
        text = excerpt.text()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * limit
    assert excerpt.size == 50 * 1024 * 1024
    assert len(text) < limit + 100


def test_many_small_chunks_cost_no_more_than_few_large_ones() -> None:
    data = bytes(range(256)) * 400
    small, large = fed(1000, *(data[i : i + 1] for i in range(len(data)))), fed(1000, data)
    assert (small.text(), small.sha256, small.size) == (large.text(), large.sha256, large.size)


@pytest.mark.must_survive(18)
@given(data=st.binary(max_size=3000), sizes=st.lists(st.integers(0, 400), max_size=20), limit=st.integers(256, 700))
def test_size_hash_and_text_are_the_same_for_any_chunks(data: bytes, sizes: list[int], limit: int) -> None:
    excerpt, whole = fed(limit, *in_chunks(data, sizes)), fed(limit, data)
    assert (excerpt.size, excerpt.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (excerpt.text(), excerpt.is_cut) == (whole.text(), whole.is_cut)
    assert excerpt.is_cut == (len(data) > limit)


@given(
    data=st.text(alphabet="ab\né€😀", min_size=260, max_size=1500).map(str.encode),
    sizes=st.lists(st.integers(0, 400), max_size=10),
    limit=st.integers(256, 400),
)
def test_head_and_tail_are_really_head_and_tail(data: bytes, sizes: list[int], limit: int) -> None:
    excerpt = fed(limit, *in_chunks(data, sizes))
    if not excerpt.is_cut:
        assert excerpt.text().encode() == data
        return
    head, left_out, tail = parts(excerpt)
    assert data.startswith(head.encode())
    assert data.endswith(tail.encode())
    assert "�" not in head + tail
    assert len(head.encode()) + len(tail.encode()) <= limit
    # The line end at the cut, and a character that did not fit, are neither shown nor counted.
    assert 0 <= len(data) - left_out - len(head.encode()) - len(tail.encode()) <= 7


def test_an_unavailable_log_has_a_reason() -> None:
    read = unavailable("pod-gone", "pod/main")
    assert (read.log.state, read.log.reason, read.log.source, read.log.ref) == (
        "unavailable",
        "pod-gone",
        "pod/main",
        None,
    )
    assert (read.output, read.is_cut) == ("", False)
