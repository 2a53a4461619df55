"""What a worker is to hand out, and what it has handed out."""

from worker.in_flight import InFlight, InFlightEntries


def in_flight_of(*entries: str, limit: int = 10) -> InFlightEntries[str]:
    in_flight: InFlightEntries[str] = InFlightEntries(limit)
    for entry in entries:
        in_flight.add(InFlight(entry, f"id-{entry}", entry, "{}", ("handler",)))
    return in_flight


def ready(in_flight: InFlightEntries[str]) -> list[str]:
    return [item.entry for item in in_flight.ready()]


def depart(in_flight: InFlightEntries[str], *targets: str) -> None:
    for item in in_flight.ready():
        item.left = set(targets)
        in_flight.mark_sent(item, 1.0)


def test_what_came_first_departs_first() -> None:
    in_flight = in_flight_of("1", "2", "3")
    assert ready(in_flight) == ["1", "2", "3"]
    depart(in_flight, "handler")
    assert not in_flight.has_ready
    assert [item.entry for item in in_flight.sent] == ["1", "2", "3"]


def test_what_is_in_flight_takes_room() -> None:
    in_flight = in_flight_of("1", "2", "3", limit=2)
    assert in_flight.room == 0
    in_flight.ended("1")
    in_flight.ended("2")
    assert in_flight.room == 1


def test_a_lost_one_departs_again() -> None:
    in_flight = in_flight_of("1", "2")
    depart(in_flight, "handler")
    lost = in_flight.get("1")
    assert lost is not None
    in_flight.resend(lost)
    in_flight.resend(lost)
    assert ready(in_flight) == ["1"]
    assert lost.is_again


def test_it_is_over_once_it_was_handed_out_and_no_process_is_left() -> None:
    in_flight = in_flight_of("1")
    assert not in_flight.is_over("1")
    depart(in_flight)
    assert in_flight.is_over("1")
    in_flight.ended("1")
    assert not in_flight.is_over("1")


def test_the_end_of_one_that_waits_or_is_unknown_disturbs_nothing() -> None:
    in_flight = in_flight_of("1", "2")
    in_flight.ended("2")
    in_flight.ended("unknown")
    assert ready(in_flight) == ["1"]
