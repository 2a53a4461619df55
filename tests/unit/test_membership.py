"""The members of one prefix: which conflict, said so that an operator can fix it."""

from typing import Any

import msgspec
import pytest

from jobcast.service.membership import (
    GONE_SECONDS,
    Handler,
    Member,
    Membership,
    decode_members,
    find_conflicts,
    latest_handlers,
)


def member(kind: str = "controller", name: str = "a", **more: Any) -> Member:
    given: dict[str, Any] = {"version": "1.0.0", "namespaces": ("evals",), "selector": "app=evaluation", "cluster": "c"}
    return Member(kind=kind, name=name, **{**given, **more})


def test_replicas_and_a_worker_of_one_installation_do_not_conflict() -> None:
    members = [
        member(name="a", namespaces=("one", "two"), selector="app=evaluation,team in (a)"),
        member(name="b", namespaces=("two", "one"), selector="team in (a), app==evaluation"),
        member("worker", namespaces=(), selector="", cluster=""),
    ]
    assert find_conflicts(members) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"namespaces": ("other",)}, "controller b watches app=evaluation in other"),
        ({"namespaces": ("evals", "other")}, "controller b watches app=evaluation in evals, other"),
        ({"namespaces": ("*",)}, "controller b watches app=evaluation in *"),
        ({"selector": "app=x"}, "controller b watches app=x in evals"),
        ({"kind": "worker", "selector": "app=x"}, "worker b watches app=x in evals"),
        ({"cluster": "d"}, "controller a and controller b share this prefix and watch different clusters"),
    ],
)
def test_two_installations_under_one_prefix_are_distinguished(other: dict[str, Any], said: str) -> None:
    (conflict,) = find_conflicts([member(), member(**{"name": "b", **other})])
    assert said in conflict
    assert "KEY_PREFIX" in conflict


@pytest.mark.parametrize(
    ("controller", "worker", "said"),
    [
        ("0.9.0", "0.10.0", "an older controller (0.9.0, a) runs beside a newer worker (0.10.0, w)"),
        ("0.10.0", "0.9.0", "an older worker (0.9.0, w) runs beside a newer controller (0.10.0, a)"),
    ],
)
def test_an_older_member_beside_a_newer_one_is_said(controller: str, worker: str, said: str) -> None:
    (conflict,) = find_conflicts([member(version=controller), member("worker", "w", version=worker)])
    assert conflict.startswith(said)


def test_a_value_that_is_no_member_is_skipped() -> None:
    good = msgspec.json.encode(member())
    assert decode_members([b"", b"\xff", b"[]", b'{"kind": 1}', b"[" * 100_000, good]) == [member()]


def test_a_member_is_there_until_it_is_silent_or_has_left() -> None:
    assert member(seen=100).is_there(100 + GONE_SECONDS)
    assert not member(seen=100).is_there(101 + GONE_SECONDS)
    assert not member(seen=100, left=True).is_there(100)


def test_a_conflict_is_new_once_and_resolved_once() -> None:
    both = [msgspec.json.encode(one) for one in (member(), member(name="b", version="2"))]
    membership = Membership()
    ((conflict,), resolved) = membership.update(both)
    assert resolved == []
    assert membership.update(both) == ([], [])
    assert membership.update(both[1:]) == ([], [conflict])
    assert membership.shown() == [{"member": "controller b", "version": "2", "watches": "app=evaluation in evals"}]


def test_a_handler_is_the_one_of_the_member_that_served_it_last() -> None:
    old, new = ({"score": Handler(("failed",), group)} for group in ("old", "new"))
    gone = member("worker", "gone", handlers=old | {"pay": Handler((), "old")}, seen=1)
    left = member("worker", "left", handlers=old, seen=3, left=True)
    there = member("worker", "there", handlers=new, seen=2)
    latest = latest_handlers([there, left, gone])
    assert {name: one.handlers[name].group for name, one in latest.items()} == {"score": "new", "pay": "old"}
