"""A log that the kubelet rotates while it is followed, at any moment: it is complete only if nothing can be missing, it is said to be
rotated otherwise, and that is known as soon as the container has ended."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobcast.jobs.facts import LogRead
from tests.conftest import eventually
from tests.logs.kubelet import PART, Entry, entries
from tests.logs.node import Node, Step
from tests.logs.room import room, wanted, without_pauses

LONG = b"".join(b"%05d" % number for number in range(PART))[: 4 * PART]
"""A line of four parts that differ."""
SHAPES = {
    "lines": [b"line %d\n" % number for number in range(12)],
    "the last line in two parts": [b"one\n", b"two\n", LONG[: PART + 9] + b"\n"],
    "the last line in many parts": [b"one\n", LONG + b"1\n", LONG + b"2\n"],
    "lines of one character": [b"one\n", b"x" * 3 * PART + b"1\n", b"x" * 3 * PART + b"2\n"],
    "one character and no end": [b"one\n", b"x" * 5 * PART],
    "equal lines": [b"same\n"] * 12,
}
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.integers(1, 5) | st.sampled_from(["rotate", "lose", "cut", "end"]), max_size=10
)


class FirstLine:
    """In place of a Rotation: the first line was recorded."""

    def __init__(self, file: list[Entry]) -> None:
        self._first = file[0][0] if file else ""

    async def is_rotated(self, key: Any, place: Any, first: str) -> bool:
        return first != self._first


async def follow(file: list[Entry], steps: list[Step], sizes: list[int]) -> LogRead:
    """Follow the log while these steps happen, to the end of its container."""
    async with room(excerpt_bytes=1 << 20) as one:
        node = Node(file, list(steps), lambda: one.want("pod"), sizes)
        one.reads._source = node
        one.reads.rotation = FirstLine(file)  # type: ignore[assignment]
        one.reads.want(wanted("pod", follow=True))
        await eventually(lambda: one.done, timeout=20, every=0.0001)
        found = one.reads.get(wanted("pod").key)
        assert found is not None
        assert len(node.requests) < 100, "it was asked for again and again"
        return found


@pytest.fixture(autouse=True)
def _waits(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)


def state_of(read: LogRead) -> str:
    return f"{read.log.state} {read.log.reason}"


@pytest.mark.must_survive(21, 38)
@pytest.mark.parametrize("lines", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5, 6, 7, 8, 9, 99])
async def test_a_log_that_is_rotated_at_any_moment_is_known_to_be(lines: list[bytes], moment: int) -> None:
    file = entries(b"".join(lines))
    moment = min(moment, len(file))
    read = await follow(file, [moment, "rotate"], [1000])
    assert state_of(read) == "truncated rotated", "the kubelet may have dropped what was written meanwhile"
    assert read.output.encode() == b"".join(lines)


@pytest.mark.must_survive(21, 38)
@pytest.mark.parametrize("lines", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("moment", [1, 2, 3, 5, 99])
async def test_lines_that_no_follower_got_are_not_claimed(lines: list[bytes], moment: int) -> None:
    file = entries(b"".join(lines))
    moment = min(moment, len(file) - 1)
    read = await follow(file, [moment, "lose", "rotate"], [1000])
    assert state_of(read) == "truncated rotated"
    assert read.log.bytes == sum(len(part) for number, (_, part) in enumerate(file) if number != moment)


@pytest.mark.must_survive(21)
async def test_a_follower_that_comes_back_after_a_rotation_follows_the_new_file() -> None:
    """And all files after that: it does not wait for a line that is gone until the container ends."""
    file = entries(b"".join(b"line %d\n" % number for number in range(40)))
    read = await follow(file, [5, "cut", "lose", "rotate", 5, "rotate", 5, "rotate"], [1000])
    assert state_of(read) == "truncated rotated"
    assert read.output.encode() == b"".join(part for number, (_, part) in enumerate(file) if number != 5)


@pytest.mark.must_survive(21, 38)
async def test_a_log_that_ends_with_a_rotation_is_not_asked_for_until_the_time_is_over() -> None:
    file = entries(b"one\ntwo\nthree\n")
    for steps in ([3, "rotate"], [2, "lose", "rotate"], [2, "rotate", "cut", "lose", "rotate"]):
        read = await follow(file, steps, [1000])
        assert state_of(read) == "truncated rotated"
        assert read.output.startswith("one\ntwo\n")


@pytest.mark.must_survive(38)
async def test_a_log_that_is_followed_and_not_rotated_is_complete() -> None:
    for lines in SHAPES.values():
        for steps in ([3], [2, "cut"], [1, "end", 2, "cut"]):
            read = await follow(entries(b"".join(lines)), steps, [1000])
            assert (read.output.encode(), state_of(read)) == (b"".join(lines), "complete None")


@pytest.mark.must_survive(21, 38)
@settings(max_examples=300, deadline=None)
@given(
    lines=st.sampled_from(list(SHAPES.values())),
    steps=STEPS,
    sizes=st.lists(st.sampled_from([7, 36, 500, 20_000]), min_size=1, max_size=3),
)
def test_whatever_happens_to_a_log_only_a_whole_one_is_complete(
    lines: list[bytes], steps: list[Step], sizes: list[int]
) -> None:
    file = entries(b"".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        without_pauses(patch)
        read = asyncio.run(follow(file, steps, sizes))
    if read.log.state == "complete":
        assert read.output.encode() == b"".join(lines)
    else:
        assert read.log.reason == "rotated"
        assert {"rotate", "lose"} & set(steps)
