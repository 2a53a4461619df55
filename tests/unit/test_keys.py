"""Every name in Redis: what subscribers use never changes, and one script may use all keys."""

import pytest
from redis.crc import key_slot

from jobcast.event import Status
from jobcast.keys import Keys

KEYS = Keys()
ALL = [
    KEYS.events,
    KEYS.open,
    KEYS.epoch,
    KEYS.dead,
    KEYS.sweep,
    KEYS.job("uid"),
    KEYS.evaluation("42"),
    KEYS.log("uid", "pod", "container"),
    KEYS.claim("uid"),
    KEYS.replays,
    KEYS.todo("1-0"),
    KEYS.todo("1-0", "worker:shop"),
    KEYS.lanes(),
    KEYS.parts,
    KEYS.lanes("worker:shop"),
]


def test_the_names_that_others_depend_on_are_these() -> None:
    assert [KEYS.channel(status) for status in Status] == [
        "evaluation:running",
        "evaluation:suspended",
        "evaluation:completed",
        "evaluation:failed",
        "evaluation:cancelled",
    ]
    assert KEYS.progress == "evaluation:progress"
    assert KEYS.live_log("42") == "evaluation:42:logs"
    assert KEYS.events == "{evaluation}:events"
    assert KEYS.evaluation("42") == "{evaluation}:eval:42"
    assert KEYS.dead == "{evaluation}:dead"


@pytest.mark.parametrize("eval_id", ["42", "", "a}b", "{x}", "é", "with space", "x:events"])
def test_all_keys_share_a_slot_of_a_cluster_whatever_the_evaluation_is_called(eval_id: str) -> None:
    names = [*ALL, KEYS.evaluation(eval_id), KEYS.job(eval_id)]
    assert {key_slot(name.encode()) for name in names} == {key_slot(b"evaluation")}


def test_no_two_keys_are_the_same() -> None:
    assert len(set(ALL)) == len(ALL)


def test_two_prefixes_share_nothing() -> None:
    other = Keys("staging")
    assert other.events == "{staging}:events"
    assert not {other.channel(status) for status in Status} & {KEYS.channel(status) for status in Status}
