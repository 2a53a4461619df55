"""What a worker is to hand out, and what it has handed out."""

from worker.in_flight import InFlight, InFlightEntries


def flights_of(*entries: str, limit: int = 10) -> InFlightEntries[str]:
    flights: InFlightEntries[str] = InFlightEntries(limit)
    for entry in entries:
        flights.add(InFlight(entry, f"id-{entry}", entry, "{}", ("handler",)))
    return flights


def ready(flights: InFlightEntries[str]) -> list[str]:
    return [flight.entry for flight in flights.ready()]


def depart(flights: InFlightEntries[str], *targets: str) -> None:
    for flight in flights.ready():
        flight.left = set(targets)
        flights.departed(flight, 1.0)


def test_what_came_first_departs_first() -> None:
    flights = flights_of("1", "2", "3")
    assert ready(flights) == ["1", "2", "3"]
    depart(flights, "handler")
    assert not flights.has_ready
    assert [flight.entry for flight in flights.aloft] == ["1", "2", "3"]


def test_what_is_in_flight_takes_room() -> None:
    flights = flights_of("1", "2", "3", limit=2)
    assert flights.room == 0
    flights.ended("1")
    flights.ended("2")
    assert flights.room == 1


def test_a_lost_one_departs_again() -> None:
    flights = flights_of("1", "2")
    depart(flights, "handler")
    lost = flights.get("1")
    assert lost is not None
    flights.again(lost)
    flights.again(lost)
    assert ready(flights) == ["1"]
    assert lost.is_again


def test_it_is_over_once_it_was_handed_out_and_nobody_is_left() -> None:
    flights = flights_of("1")
    assert not flights.is_over("1")
    depart(flights)
    assert flights.is_over("1")
    flights.ended("1")
    assert not flights.is_over("1")


def test_the_end_of_one_that_waits_or_is_unknown_disturbs_nobody() -> None:
    flights = flights_of("1", "2")
    flights.ended("2")
    flights.ended("unknown")
    assert ready(flights) == ["1"]
