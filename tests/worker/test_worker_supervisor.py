"""Threads that fail are restarted, and a worker that only a restart would heal says so."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from workers import ServedProbes, asked, completed, probing, tell, world

from jobcast.event import Status
from jobcast.handlers import Registry
from jobcast.keys import GROUP
from jobcast.service import threads
from jobcast.service.threads import Supervised
from tests.conftest import until
from worker import consumer, metrics
from worker.app import create_app
from worker.consumer import StreamConsumer
from worker.group import Group
from worker.in_flight import InFlight
from worker.scripts import run
from worker.settings import WorkerSettings


class Work:
    """Fails as often as it is told to, then goes on until it is stopped."""

    def __init__(self) -> None:
        self.begun = 0
        self.failures = 0
        self.stop = threading.Event()
        self.thread = Supervised("work", self.run, self.stop, restarted=metrics.task_restarted)

    def run(self) -> None:
        self.begun += 1
        if self.begun <= self.failures:
            raise RuntimeError("a mistake of ours")
        self.thread.succeeded()
        self.stop.wait()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setattr(threads, "PAUSE_SECONDS", (0.001, 0.002))
    work = Work()
    yield work
    work.stop.set()
    work.thread.join(5)


@pytest.mark.must_survive(4)
def test_what_a_thread_raises_is_logged_once_with_its_traceback_and_counted_and_the_work_begins_again(
    work, caplog
) -> None:
    before = metrics.task_restarts.labels("work")._value.get()
    work.failures = 3
    work.thread.start()
    until(lambda: work.begun == 4)
    assert [record.message for record in caplog.records] == ["thread failed, restarting"] * 3
    assert all(record.exc_info and record.levelno == logging.ERROR for record in caplog.records)
    assert metrics.task_restarts.labels("work")._value.get() == before + 3
    assert work.thread.unhealthy_reason() is None


@pytest.mark.must_survive(4)
@pytest.mark.must_survive(35)
def test_work_that_fails_again_and_again_is_unhealthy_until_it_succeeds(work, monkeypatch) -> None:
    work.failures = 10**9
    work.thread.start()
    until(lambda: work.thread.unhealthy_reason() is not None)
    assert work.thread.unhealthy_reason() == "keeps failing: RuntimeError: a mistake of ours"
    assert work.begun >= threads.HOPELESS
    work.failures = 0
    until(lambda: work.thread.unhealthy_reason() is None)


def test_pauses_between_failures_grow_and_end_with_a_stop(work, monkeypatch) -> None:
    monkeypatch.setattr(threads, "PAUSE_SECONDS", (60, 60))
    work.failures = 1
    work.thread.start()
    until(lambda: work.begun == 1)
    began = time.monotonic()
    work.stop.set()
    work.thread.join(40)
    assert time.monotonic() - began < 40
    assert work.thread.unhealthy_reason() is None


class Gated:
    """A target whose broker keeps a message to itself until the gate is open, or fails."""

    name = "gated"
    statuses = frozenset(Status)
    ends_with_its_task = False

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.handed: list[str] = []

    def wants(self, event: object) -> bool:
        return True

    def hand(self, item: InFlight[object], producer: object) -> str:
        self.gate.wait()
        self.handed.append(item.eval_id)
        return item.entry


@contextmanager
def consuming(url: str, target: Gated, group: str = GROUP) -> Iterator[tuple[StreamConsumer, ServedProbes]]:
    app = create_app(WorkerSettings(redis_url=url, key_prefix="stuck", takeover_seconds=1), Registry())
    it = StreamConsumer(app.context, "me@test", [target], group)
    with probing() as probe:
        probe.check("consumer", it.unhealthy_reason)
        it.start()
        try:
            yield it, probe
        finally:
            target.gate.set()
            it.stop(frozenset())
            app.close()


def livez(probe: ServedProbes) -> str:
    return asked(probe, "/livez")[1]


@pytest.mark.must_survive(35)
def test_livez_is_false_while_the_consumer_is_stuck_although_redis_answers_and_true_again(valkey, monkeypatch) -> None:
    monkeypatch.setattr(consumer, "OVERDUE_SECONDS", 1.5)  # a round of an idle consumer takes one
    target = Gated()
    with world(valkey.url, "stuck") as redis, consuming(valkey.url, target) as (_, probe):
        assert livez(probe) == "ok\n"
        tell(valkey.url, "stuck", completed("a"))
        until(lambda: livez(probe).startswith("consumer: no round for"))
        target.gate.set()
        until(lambda: livez(probe) == "ok\n" and redis.is_done)
        assert target.handed == ["a"]


@pytest.mark.must_survive(35)
def test_livez_is_true_while_redis_is_down_for_longer_than_a_consumer_may_be_stuck(own_valkey, monkeypatch) -> None:
    monkeypatch.setattr(consumer, "OVERDUE_SECONDS", 1.5)
    target = Gated()
    target.gate.set()
    with consuming(own_valkey.url, target) as (it, probe):
        until(lambda: it._context.redis.error is None)
        own_valkey.stop(kill=True)
        until(lambda: it._context.redis.error is not None)
        away = time.monotonic()
        while time.monotonic() - away < 2:
            assert livez(probe) == "ok\n"
        own_valkey.start()
        tell(own_valkey.url, "stuck", completed("a"))
        until(lambda: target.handed == ["a"])


@pytest.mark.must_survive(4)
def test_a_mistake_in_the_consumer_costs_it_a_restart_and_loses_no_event(valkey, monkeypatch, caplog) -> None:
    target = Gated()
    target.gate.set()
    mistakes = iter([True])
    beat = StreamConsumer._beat

    def mistaken(self: StreamConsumer) -> None:
        if next(mistakes, False):
            raise LookupError("a mistake of ours")
        beat(self)

    monkeypatch.setattr(StreamConsumer, "_beat", mistaken)
    with world(valkey.url, "stuck") as redis, consuming(valkey.url, target):
        tell(valkey.url, "stuck", completed("a"))
        until(lambda: target.handed == ["a"] and redis.is_done)
    assert [record.message for record in caplog.records if record.exc_info] == ["thread failed, restarting"]


def test_a_route_does_not_wait_for_a_handlers_task_of_the_same_event(valkey, monkeypatch) -> None:
    target = Gated()
    target.gate.set()
    with world(valkey.url, "stuck") as redis:
        tell(valkey.url, "stuck", completed("a"))
        before = Group(redis.client, redis.keys, "me@test", "worker:shop")
        before.create()
        (reply,) = run(redis.client, before.reading(1))
        ((entry, _),) = before.read(reply).entries
        monkeypatch.setattr(consumer, "entries_here", lambda: {entry})
        with consuming(valkey.url, target, "worker:shop"):
            until(lambda: target.handed == ["a"])
