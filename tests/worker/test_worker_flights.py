"""Whose turn it is."""

from worker.flights import Flight, Flights


def flight(entry: str, evaluation: str) -> Flight[str]:
    return Flight(entry, f"id-{entry}", evaluation, "{}", ("handler",))


def depart(flights: Flights[str]) -> list[str]:
    gone = []
    while (it := flights.ready()) is not None:
        flights.departed(it, {"handler"}, 1.0)
        gone.append(it.entry)
    return gone


def test_one_entry_of_an_evaluation_departs_at_a_time_and_others_do_not_wait() -> None:
    flights: Flights[str] = Flights(10)
    for entry, evaluation in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")):
        flights.add(flight(entry, evaluation))
    assert depart(flights) == ["1", "3"]
    assert flights.is_anyone_waiting
    flights.ended("1")
    assert depart(flights) == ["2"]
    flights.ended("3")
    assert depart(flights) == []
    flights.ended("2")
    assert depart(flights) == ["4"]
    assert not flights.is_anyone_waiting
    flights.ended("4")
    assert len(flights) == 0


def test_those_that_wait_take_room() -> None:
    flights: Flights[str] = Flights(2)
    flights.add(flight("1", "a"))
    flights.add(flight("2", "a"))
    assert flights.room == 0


def test_a_lost_one_departs_again_before_those_behind_it() -> None:
    flights: Flights[str] = Flights(10)
    flights.add(flight("1", "a"))
    flights.add(flight("2", "a"))
    depart(flights)
    lost = flights.get("1")
    assert lost is not None
    flights.again(lost)
    flights.again(lost)
    assert depart(flights) == ["1"]
    assert lost.is_again


def test_the_end_of_one_that_still_waits_or_is_unknown_disturbs_nobody() -> None:
    flights: Flights[str] = Flights(10)
    flights.add(flight("1", "a"))
    flights.add(flight("2", "a"))
    flights.add(flight("3", "a"))
    depart(flights)
    flights.ended("2")
    flights.ended("unknown")
    flights.ended("1")
    assert depart(flights) == ["3"]
