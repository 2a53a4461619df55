"""A primary that is replaced by its replica, by sentinels and in a cluster: steps continue, and every fact is published."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from jobcast.ledger.ledger import Answer
from jobcast.redis.connection import connect
from tests.conftest import eventually
from tests.ledger.conftest import World, world_on
from tests.valkeys.cluster import Cluster
from tests.valkeys.fixtures import DOUBLED_PREFIX
from tests.valkeys.nodes import Doubled, lagging
from tests.valkeys.sentinels import Watched

JOBS = [f"job-{number}" for number in range(20)]


@pytest.fixture
async def world(doubled: Doubled) -> AsyncIterator[World]:
    async with world_on(lambda: connect(doubled.url, prefix=DOUBLED_PREFIX)) as one:
        yield one


async def publish_all(world: World) -> list[Answer]:
    """As after a relist: all facts, including the published ones."""
    published = await asyncio.gather(*(world.publish("running", "completed", uid=uid, key="a") for uid in JOBS))
    return [one.answer for one in published]


async def stream(world: World) -> list[str]:
    """The stream's ids, once the bare client has found the new primary, too."""
    ids: list[str] = []

    async def is_read() -> bool:
        nonlocal ids
        try:
            ids = await world.ids()
        except Exception:
            return False
        return True

    await eventually(is_read)
    return ids


@contextlib.asynccontextmanager
async def watching(world: World) -> AsyncIterator[None]:
    """As a controller does all the time."""
    task = asyncio.create_task(world.ledger.watch_epoch(every=0.02))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.must_survive(26)
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "demoted"])
async def test_steps_go_on_with_the_new_primary(world: World, doubled: Doubled, kill: bool) -> None:
    await publish_all(world)
    before = await world.ids()
    async with watching(world):
        failing = asyncio.create_task(asyncio.to_thread(doubled.fail_over, kill=kill))
        published = 0
        while not failing.done() or not world.data_losses:
            await world.publish("completed", uid=f"meanwhile-{published}")
            published += 1
            await asyncio.sleep(0.01)
        await failing
    # Writes that the old primary accepted last may be lost, so everything is listed again.
    for number in range(published):
        await world.publish("completed", uid=f"meanwhile-{number}")
    assert world.ledger.error is None
    ids = await stream(world)
    assert ids[: len(before)] == before
    assert len(ids) == len(set(ids)) == len(before) + published, "all of them, and none twice"


@pytest.mark.must_survive(26)
async def test_what_the_new_primary_lacks_is_published_again_with_the_same_ids(world: World, doubled: Doubled) -> None:
    await world.publish("running", uid="before", key="a")
    await asyncio.to_thread(doubled.primary.ask, "WAIT", 1, 5000)
    async with lagging(doubled):
        assert await publish_all(world) == [Answer.PUBLISHED] * len(JOBS)
        lost = await world.ids()
    async with watching(world):
        await eventually(lambda: "unreachable" in world.data_losses)
        assert len(await stream(world)) == 1
        assert await publish_all(world) == [Answer.PUBLISHED] * len(JOBS)
        assert await stream(world) == lost


async def test_a_sentinel_that_is_down_and_one_that_is_mute_cost_a_second(watched: Watched) -> None:
    gone, mute, _ = watched.sentinels
    mute.freeze()
    try:
        url = watched.url.replace(str(gone.port), "1")
        async with world_on(lambda: connect(url)) as world, asyncio.timeout(60):
            assert (await world.publish("completed")).answer is Answer.PUBLISHED
    finally:
        mute.thaw()


async def test_steps_wait_for_a_service_that_no_sentinel_knows_and_the_error_names_it(watched: Watched) -> None:
    async with world_on(
        lambda: connect(watched.url.replace("/jobcast", "/evaluations")), bare=lambda: connect(watched.url)
    ) as world:
        publishing = asyncio.create_task(world.publish("completed"))
        await eventually(lambda: "says where the primary of 'evaluations' is" in str(world.ledger.error))
        publishing.cancel()


async def test_one_node_of_a_cluster_is_enough_to_find_the_others(cluster: Cluster) -> None:
    for node in cluster.nodes:
        async with world_on(lambda: connect(f"redis+cluster://127.0.0.1:{node.port}", prefix=DOUBLED_PREFIX)) as world:  # noqa: B023 (called at once)
            assert (await world.publish("completed", uid=str(node.port))).answer is Answer.PUBLISHED
            assert world.data_losses == []


async def test_a_client_with_another_prefix_finds_the_node_of_its_keys(cluster: Cluster) -> None:
    async with world_on(
        lambda: connect(cluster.url), bare=lambda: connect(cluster.url, prefix=DOUBLED_PREFIX)
    ) as world:
        assert (await world.publish("completed")).answer is Answer.PUBLISHED
        assert await world.stream() == ["completed"]


async def test_steps_wait_while_an_operator_moves_the_slot(cluster: Cluster) -> None:
    async with world_on(lambda: connect(cluster.url, prefix=DOUBLED_PREFIX)) as world:
        await world.publish("running", key="a")
        with cluster.slot_on_the_move():
            publishing = asyncio.create_task(world.publish("completed", uid="of another Job", eval_id="43"))
            await eventually(lambda: "moving Jobcast's keys" in str(world.ledger.error))
            assert not publishing.done()
        assert (await publishing).answer is Answer.PUBLISHED
        assert await world.stream() == ["running", "completed"]


async def test_steps_wait_for_a_cluster_that_is_down(cluster: Cluster) -> None:
    async with world_on(lambda: connect(cluster.url, prefix=DOUBLED_PREFIX)) as world:
        await world.publish("running", key="a")
        ours = (cluster.primary, cluster.replica)
        others = [node for node in cluster.nodes if node not in ours]
        for node in others:
            node.freeze()
        try:
            await eventually(lambda: b"cluster_state:fail" in ours[0].ask("CLUSTER", "INFO"))
            publishing = asyncio.create_task(world.publish("completed", version=11))
            await eventually(lambda: "CLUSTERDOWN" in str(world.ledger.error))
        finally:
            for node in others:
                node.thaw()
        assert (await publishing).answer is Answer.PUBLISHED
