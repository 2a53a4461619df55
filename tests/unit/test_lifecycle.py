"""Parts start in order and stop in reverse, within one grace period, whatever one of them does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jobcast.service.lifecycle import Component, Grace, running
from tests.conftest import eventually

pytestmark = pytest.mark.must_survive(31)


class Parts:
    """Records what happens; a part may fail at its start or its end, or hang there."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def make(self, name: str, *, fails_to: str = "", hangs: bool = False, is_stubborn: bool = False) -> Component:
        @asynccontextmanager
        async def open_() -> AsyncIterator[None]:
            if fails_to == "start":
                raise RuntimeError(f"{name} cannot start")
            self.seen.append(f"+{name}")
            yield
            if fails_to == "end":
                raise RuntimeError(f"{name} cannot end")
            while hangs:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if not is_stubborn:
                        raise
                    is_stubborn_once.append(name)
                    if len(is_stubborn_once) > 3:
                        raise
            self.seen.append(f"-{name}")

        is_stubborn_once: list[str] = []
        return Component(name, open_)


async def test_parts_start_in_order_and_stop_in_reverse() -> None:
    parts = Parts()
    async with running([parts.make(name) for name in "abc"], Grace(5)):
        assert parts.seen == ["+a", "+b", "+c"]
    assert parts.seen == ["+a", "+b", "+c", "-c", "-b", "-a"]


async def test_a_part_that_cannot_start_ends_those_before_it_and_starts_none_after_it() -> None:
    parts = Parts()
    with pytest.raises(RuntimeError, match="b cannot start"):
        async with running([parts.make("a"), parts.make("b", fails_to="start"), parts.make("c")], Grace(5)):
            pytest.fail("it did not start")
    assert parts.seen == ["+a", "-a"]


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.message, record.__dict__["component"]) for record in caplog.records]


async def test_a_component_that_fails_as_it_stops_is_logged_and_those_before_it_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = Parts()
    async with running([parts.make("a"), parts.make("b", fails_to="end"), parts.make("c")], Grace(5)):
        pass
    assert parts.seen[3:] == ["-c", "-a"]
    assert logged(caplog) == [("component failed as it stopped", "b")]


@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_a_component_that_does_not_stop_in_time_is_named_and_those_before_it_stop(
    is_stubborn: bool, caplog: pytest.LogCaptureFixture
) -> None:
    parts, grace = Parts(), Grace(0.05)
    hanging = parts.make("b", hangs=True, is_stubborn=is_stubborn)
    async with running([parts.make("a"), hanging, parts.make("c")], grace):
        grace.begin()
    assert parts.seen[3:] == ["-c", "-a"]
    assert logged(caplog) == [("component did not stop within the grace period", "b")]
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
    await eventually(lambda: len(asyncio.all_tasks()) == 1)


async def test_all_parts_share_one_grace_period() -> None:
    grace = Grace(1.0)
    assert grace.left() == 1.0, "it has not begun"
    grace.begin()
    await eventually(lambda: 0 < grace.left() < 1.0)
    assert grace.left(spare=0.5) < 0.5
    assert grace.left(spare=2) == 0, "and not less"
