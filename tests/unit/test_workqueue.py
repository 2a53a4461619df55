"""The queue's promises: fair, stingy, never the same key twice at a time, and nothing that is due is lost."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from controller import workqueue
from controller.workqueue import BACKOFF_SECONDS, Workqueue
from tests.conftest import eventually


@pytest.fixture
async def queue() -> AsyncIterator[Workqueue]:
    one = Workqueue()
    yield one
    one.close()


async def take(queue: Workqueue) -> str:
    async with asyncio.timeout(60):
        key, _ = await queue.get()
    return key


async def test_keys_come_in_the_order_of_their_adds(queue: Workqueue) -> None:
    for key in "cab":
        queue.add(key)
    assert [await take(queue) for _ in range(3)] == ["c", "a", "b"]


async def test_a_key_added_many_times_comes_once(queue: Workqueue) -> None:
    for _ in range(100):
        queue.add("a")
    queue.add("b")
    assert [await take(queue), await take(queue)] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_added_while_it_is_worked_on_comes_again_and_not_before(queue: Workqueue) -> None:
    queue.add("a")
    key = await take(queue)
    queue.add(key)
    queue.add(key)
    assert len(queue) == 0, "no other worker may have it now"
    assert not queue.is_idle
    queue.done(key)
    assert await take(queue) == "a"
    queue.done("a")
    assert queue.is_idle


async def test_a_key_that_is_done_does_not_come_again(queue: Workqueue) -> None:
    queue.add("a")
    queue.done(await take(queue))
    assert (len(queue), queue.is_idle, queue.taken) == (0, True, 1)


async def test_each_key_has_one_worker_at_a_time(queue: Workqueue) -> None:
    working: set[str] = set()
    worked = dict.fromkeys("abc", 0)

    async def work() -> None:
        while True:
            key, _ = await queue.get()
            assert key not in working
            working.add(key)
            await asyncio.sleep(0)
            working.discard(key)
            worked[key] += 1
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(5)]
    for _ in range(50):
        for key in worked:
            queue.add(key)
        await asyncio.sleep(0)
    await eventually(lambda: queue.is_idle)
    for worker in workers:
        worker.cancel()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert all(count > 10 for count in worked.values())


async def test_the_time_of_the_first_add_is_returned(queue: Workqueue) -> None:
    before = asyncio.get_running_loop().time()
    queue.add("a")
    first = asyncio.get_running_loop().time()
    queue.add("a")
    _, added = await queue.get()
    assert before <= added <= first


async def test_a_waiting_getter_is_woken(queue: Workqueue) -> None:
    getter = asyncio.create_task(take(queue))
    await asyncio.sleep(0)
    queue.add("a")
    assert await getter == "a"


async def test_a_cancelled_getter_loses_no_wake_up(queue: Workqueue) -> None:
    first, second = (asyncio.create_task(take(queue)) for _ in range(2))
    await asyncio.sleep(0)
    queue.add("a")  # wakes the first,
    first.cancel()  # which cannot take it any more
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == "a"


async def test_getters_that_gave_up_are_passed_over(queue: Workqueue) -> None:
    getters = [asyncio.create_task(take(queue)) for _ in range(4)]
    await asyncio.sleep(0)
    for getter in getters[:3]:
        getter.cancel()
    await asyncio.gather(*getters[:3], return_exceptions=True)
    queue.add("a")
    assert await getters[3] == "a"


async def test_the_earlier_of_two_timers_holds(queue: Workqueue) -> None:
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    assert await take(queue) == "a"
    queue.done("a")
    queue.add_after("b", 0.01)
    queue.add_after("b", 3600)
    assert await take(queue) == "b"


async def test_what_is_due_later_comes_once(queue: Workqueue) -> None:
    for _ in range(10):
        queue.add_after("a", 0.01)
    assert await take(queue) == "a"
    queue.done("a")
    queue.add_after("last", 0.02)
    assert await take(queue) == "last"


async def test_a_timer_may_be_set_again_after_it_fired(queue: Workqueue) -> None:
    for _ in range(3):
        queue.add_after("a", 0.001)
        assert await take(queue) == "a"
        queue.done("a")


def pauses(queue: Workqueue, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    asked: list[float] = []
    monkeypatch.setattr(queue, "add_after", lambda key, seconds: asked.append(seconds))
    return asked


@pytest.mark.must_survive(5)
async def test_retries_wait_longer_each_time_and_never_too_long(
    queue: Workqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, (first, longest) = pauses(queue, monkeypatch), BACKOFF_SECONDS
    for _ in range(2000):
        queue.retry("a")
    for failures, pause in enumerate(asked):
        whole = min(first * 2 ** min(failures, 20), longest)
        assert whole / 2 <= pause <= whole
    assert len(set(asked)) > 1000, "jittered"


async def test_after_a_success_the_next_failure_is_the_first_again(
    queue: Workqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pauses(queue, monkeypatch)
    for _ in range(10):
        queue.retry("a")
    queue.forget("a")
    queue.retry("a")
    queue.forget("never failed")
    assert asked[-1] <= BACKOFF_SECONDS[0]


@pytest.fixture
def no_retry_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "BACKOFF_SECONDS", (3600.0, 3600.0))


@pytest.mark.usefixtures("no_retry_in_time")
@pytest.mark.must_survive(5)
async def test_the_first_success_releases_all_that_failed_for_what_they_share(queue: Workqueue) -> None:
    for key in "abc":
        queue.retry(key, shared=True)
    queue.retry("broken")
    queue.add("a")
    assert await take(queue) == "a"
    queue.forget("a")
    queue.done("a")
    assert {await take(queue) for _ in range(3)} == {"a", "b", "c"}, "a had its own timer running"
    assert len(queue) == 0, "what failed by itself waits its own time"


@pytest.mark.usefixtures("no_retry_in_time")
async def test_a_success_of_a_key_that_did_not_fail_releases_no_key(queue: Workqueue) -> None:
    queue.retry("a", shared=True)
    queue.add("b")
    queue.forget(await take(queue))
    assert len(queue) == 0
    queue.release()
    assert await take(queue) == "a"
    queue.release()
    assert len(queue) == 0, "once"


async def test_a_closed_queue_leaves_no_timer() -> None:
    queue = Workqueue()
    queue.add_after("a", 0.001)
    queue.close()
    await asyncio.sleep(0.01)
    assert len(queue) == 0


async def test_a_list_waits_until_its_keys_have_room(queue: Workqueue) -> None:
    for number in range(5):
        queue.add(str(number))
    waiting = asyncio.ensure_future(queue.room(3))
    key, _ = await queue.get()
    queue.done(key)
    await asyncio.sleep(0)
    assert not waiting.done()
    key, _ = await queue.get()
    queue.done(key)
    await asyncio.wait_for(waiting, 5)
