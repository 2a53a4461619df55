"""What is said to Redis and what its answers mean, without any I/O."""

from typing import Any

import pytest
import redis

from jobcast.client.effects import PAUSE_SECONDS, FeedState, Listen, Ping, Subscribe
from jobcast.client.entry import Fields, entries_of, entries_read
from jobcast.client.errors import Refused, is_refusal
from jobcast.client.subscription import Subscription


def message(channel: str, data: Any = b"event", kind: str = "message") -> dict[str, Any]:
    return {"type": kind, "channel": channel, "data": data}


def play(program: Any, *answers: Any) -> tuple[list[Any], Any]:
    """The effects of a program that is given these answers, and what it returned."""
    effects = [next(program)]
    for answer in answers:
        try:
            effects.append(program.send(answer))
        except StopIteration as stop:
            return effects, stop.value
    return effects, None


def test_a_message_that_comes_before_all_channels_are_confirmed_is_not_lost() -> None:
    subscription = Subscription(("a", "b"))
    confirmed_a, early, confirmed_b = message("a", 1, "subscribe"), message("a"), message("b", 2, "subscribe")
    effects, _ = play(subscription.open(), None, confirmed_a, early, confirmed_b)
    assert effects[0] == Subscribe(("a", "b"))
    with pytest.raises(StopIteration) as heard:
        next(subscription.receive())
    assert heard.value.value == ("a", b"event")


def test_what_came_early_on_a_lost_connection_is_still_given() -> None:
    subscription = Subscription(("a",))
    confirmed = message("a", 1, "subscribe")
    play(subscription.open(), None, message("a", b"first"), confirmed)
    play(subscription.open(), None, confirmed)
    with pytest.raises(StopIteration) as heard:
        next(subscription.receive())
    assert heard.value.value == ("a", b"first")


def test_a_subscription_that_is_not_confirmed_is_an_error() -> None:
    with pytest.raises(redis.TimeoutError):
        play(Subscription(("a",)).open(), None, None)


def test_a_quiet_line_is_asked_for_a_sign_of_life_and_mute_is_an_error() -> None:
    subscription = Subscription(("a",))
    effects, heard = play(subscription.receive(), None, None, message("", b"", "pong"))
    assert [type(effect) for effect in effects] == [Listen, Ping, Listen]
    assert heard is None
    with pytest.raises(redis.TimeoutError, match="does not answer"):
        play(subscription.receive(), None, None, None)


def test_a_connection_made_anew_by_somebody_else_counts_as_lost() -> None:
    with pytest.raises(redis.ConnectionError, match="reopened"):
        play(Subscription(("a",)).receive(), message("a", 1, "subscribe"))


@pytest.mark.parametrize(
    "reply",
    [
        [[b"s", [(b"1-0", {b"event": b"{}"})]]],
        {b"s": [(b"1-0", {b"event": b"{}"})]},
        {b"s": [[(b"1-0", {b"event": b"{}"})]]},
        [["s", [("1-0", {"event": "{}"})]]],
    ],
    ids=["RESP2", "unified", "RESP3", "decoded"],
)
def test_entries_are_read_in_every_shape_that_redis_py_gives_them(reply: Any) -> None:
    assert entries_read(reply) == [Fields("1-0", b"{}", False)]


@pytest.mark.parametrize("reply", [None, [], {}])
def test_no_entries_are_no_entries(reply: Any) -> None:
    assert entries_read(reply) == []


def test_entries_that_the_stream_has_no_more_are_known_for_that() -> None:
    pairs = [(b"1-0", None), (b"2-0", {b"other": b"x"}), (None, None)]
    assert entries_of(pairs) == [Fields("1-0", None, True), Fields("2-0", None, False)]


@pytest.mark.must_survive(27)
@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (redis.exceptions.AuthenticationError("invalid password"), True),
        (redis.exceptions.NoPermissionError("no"), True),
        (redis.ResponseError("WRONGTYPE Operation against a key"), True),
        (redis.ConnectionError("refused"), False),
        (redis.TimeoutError("slow"), False),
        (OSError("no route"), False),
        (redis.exceptions.BusyLoadingError("loading"), False),
        (redis.exceptions.ReadOnlyError("replica"), False),
        (redis.exceptions.OutOfMemoryError("full"), False),
        (redis.exceptions.AskError("6918 127.0.0.1:7000"), False),
        (redis.exceptions.MovedError("6918 127.0.0.1:7000"), False),
        (redis.exceptions.ClusterDownError("the cluster is down"), False),
        (redis.ResponseError("MISCONF cannot save"), False),
        (redis.ResponseError("NOREPLICAS not enough"), False),
        (redis.ResponseError("UNBLOCKED force unblock"), False),
    ],
)
def test_a_refusal_that_stays_is_distinguished_from_errors_that_pass(error: Exception, is_one: bool) -> None:
    assert is_refusal(error) == is_one
    if is_one:
        with pytest.raises(Refused):
            FeedState(lambda trouble: None).disconnected(error)


def test_an_error_is_reported_once_and_its_end_once_and_pauses_grow_up_to_half_a_second() -> None:
    said: list[str | None] = []
    state = FeedState(said.append)
    state.connected()
    pauses = [state.disconnected(redis.ConnectionError("away")).seconds for _ in range(6)]
    state.connected()
    state.connected()
    assert said == ["away", None]
    assert (pauses[0], pauses[-1]) == PAUSE_SECONDS
    assert state.interruptions == 6
    assert state.disconnected(redis.ConnectionError("again")).seconds == PAUSE_SECONDS[0]
