"""From the delivery's thread to Celery's consumer, past the broker."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workers import Worker, completed, tell, world

from tests.conftest import until
from worker.outcome import BACK, DONE, Outcome
from worker.transport import InProcessTransport, Message

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


def a_consumer(hub: Hub | None, places: int = 2) -> tuple[Any, list[Message]]:
    begun: list[Message] = []

    def strategy(message: Message, body: None, ack: Any, reject: Any, callbacks: Any) -> None:
        begun.append(message)

    pool = SimpleNamespace(num_processes=places)
    return SimpleNamespace(hub=hub, strategies={"score": strategy}, on_task_message=set(), pool=pool), begun


def a_message(task_id: str, ends: list[Outcome] | None = None) -> Message:
    return Message({"task": "score"}, task_id, ("1-0", "{}"), ([] if ends is None else ends).append)


def a_transport(places: int = 2) -> tuple[InProcessTransport, Hub, list[Message]]:
    hub, transport = Hub(), InProcessTransport()
    consumer, begun = a_consumer(hub, places)
    transport.attach(consumer)
    transport.register(hub)
    return transport, hub, begun


def ids(messages: list[Message]) -> list[str]:
    return [message.headers["id"] for message in messages]


def test_celery_is_given_as_many_tasks_as_its_pool_has_places_in_their_order() -> None:
    transport, hub, begun = a_transport(places=2)
    for number in range(4):
        transport.put(a_message(str(number)))
    assert not begun  # in the consumer's thread, not in the delivery's
    hub.turn()
    assert ids(begun) == ["0", "1"]
    begun[0].end(DONE)
    hub.turn()
    assert ids(begun) == ["0", "1", "2"]


def test_what_waits_can_be_taken_back_and_what_was_given_cannot() -> None:
    transport, hub, begun = a_transport(places=1)
    ends: list[list[Outcome]] = [[], []]
    for number, its in enumerate(ends):
        transport.put(a_message(str(number), its))
    hub.turn()
    assert transport.withdraw(60.0) == 0
    assert transport.withdraw() == 1
    assert ends == [[], [BACK]]
    begun[0].end(DONE)
    hub.turn()
    assert ids(begun) == ["0"]


def test_an_end_is_told_once() -> None:
    ends: list[Outcome] = []
    message = a_message("0", ends)
    message.end(DONE)
    message.end(BACK)
    assert ends == [DONE]


def test_more_is_taken_ahead_when_tasks_are_short() -> None:
    transport, hub, begun = a_transport(places=2)
    assert transport.room == 2
    for number in range(50):
        transport.put(a_message(str(number)))
        hub.turn()
        begun[-1].end(DONE)
    assert transport.room > 2


def test_a_thread_that_hangs_costs_its_place() -> None:
    transport, hub, begun = a_transport(places=2)
    transport.put(a_message("0"))
    hub.turn()
    transport.lose(begun[0], kill=False)
    assert transport.places == 1
    begun[0].end(DONE)
    assert transport.places == 2


def test_a_task_that_celery_cannot_begin_has_failed() -> None:
    transport, hub, _ = a_transport()
    ends: list[Outcome] = []
    transport.put(Message({"task": "unknown"}, "0", ("1-0", "{}"), ends.append))
    hub.turn()
    assert [end.kind for end in ends] == ["failed"]


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


@pytest.mark.parametrize("pool", [("-P", "threads", "-c", "2"), ("-P", "prefork", "-c", "1")])
def test_while_the_broker_is_down_tasks_that_need_none_go_on(valkey, own_valkey, tmp_path: Path, pool: Any) -> None:
    own_valkey.stop()
    tell(valkey.url, "evaluation", completed("a"))
    with (
        world(valkey.url, "evaluation") as redis,
        Worker(valkey.url, tmp_path, HANDLER, *pool, CELERY_BROKER_URL=own_valkey.url) as worker,
    ):
        until(lambda: redis.is_done and redis.calls == ["score a completed"])
        assert "broker: " in worker.get("/readyz")[1]
        own_valkey.start()
        until(lambda: worker.get("/readyz")[0] == 200)
        tell(valkey.url, "evaluation", completed("b"))
        until(lambda: redis.is_done and redis.calls[1:] == ["score b completed"])
        own_valkey.stop()
        until(lambda: "broker: " in worker.get("/readyz")[1])
        tell(valkey.url, "evaluation", completed("c"))
        until(lambda: redis.is_done and redis.calls[2:] == ["score c completed"])
        own_valkey.start()
        assert not worker.unreachable("redis")
