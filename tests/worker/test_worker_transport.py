"""From the stream consumer's thread to Celery's consumer, past the broker."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError
from workers import Worker, completed, tell, world

from tests.conftest import until
from worker.transport import AT_ONCE, InProcessTransport, Message

HANDLER = '@on("completed")\ndef score(event): call("score", event)\n'


class Hub:
    """Celery's loop, turned by hand."""

    def __init__(self) -> None:
        self.readers: dict[int, Any] = {}

    def add_reader(self, fd: int, callback: Any) -> None:
        self.readers[fd] = callback

    def remove(self, fd: int) -> None:
        del self.readers[fd]

    def turn(self) -> bool:
        """Whether there was anything to read."""
        import select

        ready, _, _ = select.select(list(self.readers), [], [], 0)
        for fd in ready:
            self.readers[fd]()
        return bool(ready)


def a_consumer(hub: Hub | None) -> tuple[Any, list[str]]:
    begun: list[str] = []

    def strategy(message: Message, body: None, ack: Any, reject: Any, callbacks: Any) -> None:
        begun.append(message.headers["id"])

    return SimpleNamespace(hub=hub, strategies={"score": strategy}, on_task_message=set()), begun


def a_message(task_id: str, on_lost: Any = None) -> Message:
    return Message({"task": "score"}, task_id, ("1-0", "{}"), "('1-0', …)", "own", on_lost)


def test_messages_are_delivered_in_their_order_and_a_few_at_a_time() -> None:
    hub, conveyor = Hub(), InProcessTransport()
    consumer, begun = a_consumer(hub)
    conveyor.attach(consumer)
    wanted = [str(number) for number in range(AT_ONCE + 1)]
    for task_id in wanted:
        assert conveyor.put(a_message(task_id))
    assert not begun  # in the consumer's thread, not in the stream consumer's
    assert hub.turn()
    assert begun == wanted[:-1]
    assert hub.turn()
    assert begun == wanted
    assert not hub.turn()
    conveyor.put(a_message("another"))
    assert hub.turn()
    assert begun == [*wanted, "another"]


def test_nothing_is_taken_while_the_consumer_is_down_and_what_waited_is_dropped() -> None:
    hub, conveyor = Hub(), InProcessTransport()
    consumer, begun = a_consumer(hub)
    assert not conveyor.is_open
    with pytest.raises(OperationalError):
        conveyor.put(a_message("early"))
    conveyor.attach(consumer)
    conveyor.put(a_message("lost"))
    conveyor.detach()
    with pytest.raises(OperationalError):
        conveyor.put(a_message("late"))
    conveyor.attach(consumer)
    assert not hub.turn()
    conveyor.put(a_message("again"))
    hub.turn()
    assert begun == ["again"]


def test_without_an_event_loop_it_goes_by_the_broker() -> None:
    conveyor = InProcessTransport()
    conveyor.attach(a_consumer(None)[0])
    assert conveyor.is_open
    assert not conveyor.put(a_message("1"))


def test_a_task_whose_process_died_is_lost_and_one_that_is_thrown_away_is_not() -> None:
    lost: list[Any] = []
    message = a_message("1", lost.append)
    message.reject(None, (), False)
    assert not lost
    for _ in range(2):
        message.reject(None, (), True)
    assert lost == [("1", "1-0")]


@pytest.mark.parametrize("options", ["", ", priority=3", ", queue='mine'"])
def test_the_broker_carries_only_what_it_is_needed_for(own_valkey, tmp_path: Path, options: str) -> None:
    handler = HANDLER.replace('"completed"', '"completed"' + options)
    with world(own_valkey.url, "evaluation") as redis, Worker(own_valkey.url, tmp_path, handler):
        tell(own_valkey.url, "evaluation", completed("a"), completed("b"))
        until(lambda: redis.is_done and len(redis.calls) == 2)
        messages = redis.client.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"]
        assert messages == (2 if options else 0)


def test_a_broker_without_an_event_loop_does(valkey, tmp_path: Path) -> None:
    with (
        world(valkey.url, "evaluation") as redis,
        Worker(valkey.url, tmp_path, HANDLER, CELERY_BROKER_URL="memory://") as worker,
    ):
        tell(valkey.url, "evaluation", completed("a"))
        until(lambda: redis.is_done and redis.calls == ["score a completed"])
        until(lambda: worker.get("/readyz")[0] == 200)


def test_while_the_broker_is_down_entries_wait_and_redis_is_not_blamed(valkey, own_valkey, tmp_path: Path) -> None:
    own_valkey.stop()
    tell(valkey.url, "evaluation", completed("a"))
    with (
        world(valkey.url, "evaluation") as redis,
        Worker(valkey.url, tmp_path, HANDLER, CELERY_BROKER_URL=own_valkey.url) as worker,
    ):
        until(lambda: redis.client.xinfo_groups(redis.keys.events) and redis.pending)
        assert "broker: " in worker.get("/readyz")[1]
        assert "redis: " not in worker.get("/readyz")[1]
        assert not redis.calls
        own_valkey.start()
        until(lambda: redis.is_done and redis.calls == ["score a completed"])
        assert not worker.unreachable("redis")
