"""`/statusz` of both parts: what an operator looks at beside an alert."""

from tests.conftest import until
from tests.observability.running import Running


def test_the_controller_says_how_its_watches_and_redis_fare(parts: Running) -> None:
    said = parts.status(parts.controller)
    assert (said["ready"], said["alive"]) == ("yes", "yes")
    assert {(watch["resource"], watch["namespace"]) for watch in said["watches"]} == {
        ("jobs", "default"),
        ("pods", "default"),
    }
    assert all(watch["seconds_since_last_byte"] >= 0 and watch["error"] is None for watch in said["watches"])
    assert said["redis"]["error"] is None
    assert said["queue"] == 0
    assert said["jobs"] == {"open": 0, "ended": 2}, "the third is deleted"


def test_the_worker_says_how_far_behind_it_is_and_what_the_last_sweep_found(parts: Running) -> None:
    until(lambda: parts.status(parts.worker)["sweep"]["last_round"])
    said = parts.status(parts.worker)
    assert (said["ready"], said["alive"]) == ("yes", "yes")
    assert said["redis"] == {"url": parts.redis_url, "error": None}
    assert said["broker"] == {"error": None}
    assert said["lag"] == {"worker": 0}
    assert said["consumer"]["events_in_hand"] == 0
    assert said["sweep"]["every_seconds"] == 0.5
    assert said["sweep"]["last_round"]["found"] == 0
    assert said["sweep"]["error"] is None
    assert said["handlers"] == ["life_handlers.score", "life_handlers.explain"]
