"""From an entry to its targets, when only some of them can have it."""

from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError
from workers import completed

from jobcast import wire
from worker.dispatcher import Dispatcher
from worker.entries import Opened
from worker.in_flight import InFlight, InFlightEntries


class Target:
    """Takes every event, unless its broker is away."""

    ends_with_its_task = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_away = False
        self.had: list[str] = []

    def wants(self, event: Any) -> bool:
        return True

    def hand(self, item: InFlight[Any], producer: Any) -> str:
        if self.is_away:
            raise OperationalError("OOM command not allowed")
        self.had.append(item.entry)
        return f"{item.event_id}:{self.name}"


class Entries:
    """Of which nothing has ended, but what is said to have."""

    group = "worker"

    def __init__(self) -> None:
        self.ended: set[str] = set()

    def open_all(self, wanting: list[tuple[str, list[str]]]) -> list[Opened]:
        return [Opened([name for name in names if name not in self.ended], [], 0) for _, names in wanting]


@pytest.fixture
def targets() -> list[Any]:
    return [Target("first"), Target("second")]


@pytest.fixture
def in_flight() -> InFlightEntries[Any]:
    return InFlightEntries(10)


@pytest.fixture
def entries() -> Entries:
    return Entries()


@pytest.fixture
def dispatcher(targets, in_flight, entries) -> Dispatcher:
    class Pool:
        def acquire(self, block: bool) -> "Pool":
            return self

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    celery = SimpleNamespace(producer_pool=Pool())
    context: Any = SimpleNamespace(transport=SimpleNamespace(is_open=True), celery=celery)
    made = Dispatcher(context, entries, in_flight, targets)  # type: ignore[arg-type]
    made.take([("1-0", {b"event": wire.encode(completed("a")), b"eval_id": b"a"})], again=())
    return made


def test_who_has_it_is_not_given_it_again_when_the_broker_of_the_next_works_again(
    dispatcher, targets, in_flight
) -> None:
    first, second = targets
    second.is_away = True
    for _ in range(2):
        with pytest.raises(OperationalError):
            list(dispatcher.hand_out())
    second.is_away = False
    list(dispatcher.hand_out())
    assert first.had == second.had == ["1-0"]
    assert in_flight.get("1-0").left == {"first", "second"}


def test_it_is_not_over_while_somebody_has_not_been_given_it(dispatcher, targets, in_flight) -> None:
    targets[1].is_away = True
    with pytest.raises(OperationalError):
        list(dispatcher.hand_out())
    in_flight.get("1-0").left.remove("first")  # its task has ended
    assert not in_flight.is_over("1-0")


def test_only_the_one_whose_task_is_lost_is_given_it_again(dispatcher, targets, in_flight) -> None:
    list(dispatcher.hand_out())
    in_flight.resend(in_flight.get("1-0"), "second")
    list(dispatcher.hand_out())
    assert [target.had for target in targets] == [["1-0"], ["1-0", "1-0"]]


def test_who_has_ended_elsewhere_is_not_waited_for(dispatcher, targets, in_flight, entries) -> None:
    list(dispatcher.hand_out())
    entries.ended.add("first")
    in_flight.resend(in_flight.get("1-0"), "second")
    list(dispatcher.hand_out())
    assert in_flight.get("1-0").left == {"second"}
