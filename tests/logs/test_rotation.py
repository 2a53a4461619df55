"""A log that the kubelet rotated begins later than it did."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobcast.kube import NotFound
from jobcast.logs.rotation import CHECK_SECONDS, Rotation
from jobcast.logstore.base import LogPlace
from tests.conftest import eventually

KEY = ("pod uid", "main", 0)
PLACE = LogPlace("evals", "eval-42", "uid", "eval-42-x", "main")


class Lines:
    """The source and the index: the first line now, and the recorded one."""

    def __init__(self) -> None:
        self.first: str | Exception = ""
        self.first_of_last = "10:00"
        self.asked = 0
        self.recorded: dict[str, str] = {}

    async def first_line(self, *where: str, of_last: int | None = None) -> str | None:
        if len(where) == 2:
            return self.recorded.get(where[1])
        self.asked += 1
        if of_last is not None:
            return self.first_of_last
        if isinstance(self.first, Exception):
            raise self.first
        return self.first

    async def record_first_line(self, uid: str, instance: str, time: str) -> None:
        self.recorded.setdefault(instance, time)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines = Lines()
        self.grown: list[str] = []
        self.rotation = Rotation(self.lines, self.lines, clock=lambda: self.now, grown=self.grown.append)  # type: ignore[arg-type]

    async def look(self) -> float | None:
        left = self.rotation.watch(KEY, PLACE)
        for _ in range(5):
            await asyncio.sleep(0)
        return left

    async def until_looked(self, times: int) -> None:
        while self.lines.asked < times:
            left = await self.look()
            self.now += left or 0.0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    one = World()
    async with one.rotation:
        yield one


async def test_a_container_that_ends_soon_is_not_checked(world: World) -> None:
    left = await world.look()
    assert left is not None
    assert left >= CHECK_SECONDS[0]
    world.now += left - 0.1
    await world.look()
    assert world.lines.asked == 0


@pytest.mark.must_survive(21)
async def test_a_log_that_begins_with_another_line_was_rotated(world: World) -> None:
    world.lines.first = "10:00"
    await world.until_looked(1)
    await eventually(lambda: world.lines.recorded)
    assert not await world.rotation.is_rotated(KEY, PLACE, "10:00")
    assert await world.rotation.is_rotated(KEY, PLACE, "10:05")
    assert world.lines.asked == 1


async def test_a_log_that_becomes_large_is_noticed_with_few_requests(world: World) -> None:
    world.lines.first = world.lines.first_of_last = "10:00"
    await world.until_looked(1)
    await eventually(lambda: world.lines.recorded)
    before = world.now
    await world.until_looked(8)
    assert world.now - before > 3 * 2**7, "the pauses double"
    assert not world.rotation.is_large(KEY)
    world.lines.first_of_last = "10:05"
    await world.until_looked(9)
    await eventually(lambda: world.rotation.is_large(KEY))
    assert world.grown == [PLACE.uid]
    world.now += 1e9
    assert await world.look() is None
    assert world.lines.asked == 9


async def test_an_empty_log_is_checked_again_with_growing_pauses(world: World) -> None:
    await world.until_looked(4)
    assert world.now < 120
    await world.until_looked(8)
    left = await world.look()
    assert left is not None
    assert left <= CHECK_SECONDS[1]
    assert world.lines.recorded == {}


async def test_a_first_line_that_another_replica_recorded_is_not_requested_again(world: World) -> None:
    world.lines.recorded["pod uid/main/0"] = "10:00"
    for _ in range(5):
        world.now += (await world.look()) or 0.0
    assert world.lines.recorded == {"pod uid/main/0": "10:00"}
    assert not world.rotation.is_large(KEY)


async def test_a_log_without_a_recorded_first_line_is_not_rotated(world: World) -> None:
    assert not await world.rotation.is_rotated(KEY, PLACE, "10:00")


@pytest.mark.must_survive(21)
async def test_a_log_that_lost_all_its_lines_was_rotated(world: World) -> None:
    world.lines.recorded["pod uid/main/0"] = "10:00"
    assert await world.rotation.is_rotated(KEY, PLACE, "")


@pytest.mark.must_survive(21)
async def test_a_first_line_that_cannot_be_read_is_asked_for_again(world: World) -> None:
    world.lines.first = NotFound("gone", code=404)
    await world.until_looked(2)
    assert world.lines.recorded == {}


async def test_a_container_that_ended_is_forgotten(world: World) -> None:
    await world.look()
    world.rotation.drop(KEY)
    world.rotation.drop(KEY)
    assert world.rotation._checks == {}
