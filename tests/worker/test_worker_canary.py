"""A Celery consumer that silently stops reading is noticed, and one that has its reasons is not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency import solo
from celery.worker import state
from workers import Worker

from tests.conftest import until
from worker import canary
from worker.canary import DEAF_SECONDS, EVERY_SECONDS, Canary
from worker.transport import Message

DEAF = """
import pathlib
from kombu.transport import redis as kombu_redis
from worker import canary

canary.EVERY_SECONDS, canary.DEAF_SECONDS = 0.05, 0.5
gate = pathlib.Path(os.environ["GATE"])
poll = kombu_redis.MultiChannelPoller.on_poll_start

def poll_unless_deaf(self):
    if not gate.exists():
        poll(self)

kombu_redis.MultiChannelPoller.on_poll_start = poll_unless_deaf

@on()
def note(event): ...
"""


@pytest.mark.must_survive(35)
@pytest.mark.parametrize("pool", ["threads", "solo", "prefork"])
def test_a_consumer_that_reads_nothing_any_more_makes_livez_fail(valkey, tmp_path: Path, pool: str) -> None:
    gate = tmp_path / "deaf"
    with Worker(valkey.url, tmp_path, DEAF, "-P", pool, "-c", "1", GATE=str(gate)) as worker:
        until(lambda: worker.get("/readyz")[0] == 200)
        gate.touch()
        until(lambda: worker.get("/livez")[0] == 503)
        assert "celery: nothing read from the broker for" in worker.get("/livez")[1]
        gate.unlink()
        until(lambda: worker.get("/livez") == (200, "ok\n"))


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Consumer:
    """Celery's, as far as it is asked."""

    def __init__(self, pool: Any = None) -> None:
        self.hostname = "one@test"
        self.pool = pool
        self.initial_prefetch_count = 2
        self.timer = SimpleNamespace(call_repeatedly=self._keep)

    def _keep(self, every: float, call: Any) -> Any:
        assert every == EVERY_SECONDS
        self.turn = call
        return SimpleNamespace(cancel=lambda: None)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(canary, "time", clock)
    return clock


@pytest.fixture
def app(monkeypatch) -> Any:
    sent: list[Any] = []

    class Pool:
        def acquire(self, block: bool) -> "Pool":
            return self

        def __enter__(self) -> Any:
            return SimpleNamespace(publish=lambda body, **message: sent.append(message["headers"]))

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(state, "reserved_requests", [])
    monkeypatch.setattr(state, "active_requests", [])
    return SimpleNamespace(producer_pool=Pool(), sent=sent)


def test_no_second_one_is_sent_while_the_first_is_on_its_way(app, clock) -> None:
    consumer, it = Consumer(), Canary(app, "evaluation")
    it.attach(consumer)
    consumer.turn()
    consumer.turn()
    assert app.sent == [{"task": canary.TASK}]
    assert it.takes(SimpleNamespace(headers=app.sent[0]))
    assert not it.takes(SimpleNamespace(headers={"task": "another"}))
    assert not it.takes(SimpleNamespace(headers=None))
    consumer.turn()
    assert len(app.sent) == 2


def test_a_consumer_that_holds_all_it_may_has_a_reason_not_to_read(app, clock) -> None:
    consumer, it = Consumer(), Canary(app, "evaluation")
    it.attach(consumer)
    consumer.turn()
    held: Any = state.reserved_requests
    held += [SimpleNamespace(message=object()) for _ in range(2)]
    clock.now += DEAF_SECONDS + 1
    assert it.unhealthy_reason() is None
    held.clear()
    conveyed = Message({}, "1", ("1-0", "{}"), "", "own", print)
    held += [SimpleNamespace(message=conveyed) for _ in range(2)]
    assert "nothing read" in str(it.unhealthy_reason())


def test_a_loop_that_stands_still_is_noticed_unless_a_task_runs_in_it(app, clock) -> None:
    consumer, it = Consumer(solo.TaskPool.__new__(solo.TaskPool)), Canary(app, "evaluation")
    it.attach(consumer)
    clock.now += DEAF_SECONDS + EVERY_SECONDS + 1
    assert "event loop stuck for" in str(it.unhealthy_reason())
    running: Any = state.active_requests
    running.append("a task")
    assert it.unhealthy_reason() is None
    consumer.pool = None
    assert "event loop stuck for" in str(it.unhealthy_reason())


def test_while_the_broker_is_down_nothing_is_wrong_with_the_consumer(app, clock) -> None:
    consumer, it = Consumer(), Canary(app, "evaluation")
    it.attach(consumer)
    consumer.turn()
    it.detach()
    clock.now += 10 * DEAF_SECONDS
    assert it.unhealthy_reason() is None
    it.attach(consumer)
    assert it.unhealthy_reason() is None
