"""Who works under one prefix: what fits together and what does not, said so that it can be mended."""

from typing import Any

import msgspec
import pytest

from jobcast.service.membership import GONE_SECONDS, Member, Membership, conflicts, known, there


def part(kind: str = "controller", name: str = "a", **more: Any) -> Member:
    given: dict[str, Any] = {"version": "1.0.0", "namespaces": ("evals",), "selector": "app=evaluation", "cluster": "c"}
    return Member(kind=kind, name=name, **{**given, **more})


def test_replicas_and_a_worker_of_one_installation_fit() -> None:
    parts = [
        part(name="a", namespaces=("one", "two"), selector="app=evaluation,team in (a)"),
        part(name="b", namespaces=("two", "one"), selector="team in (a), app==evaluation"),
        part("worker", namespaces=(), selector="", cluster=""),
    ]
    assert conflicts(parts) == []


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
def test_two_installations_under_one_prefix_are_told_apart(other: dict[str, Any], said: str) -> None:
    (misfit,) = conflicts([part(), part(**{"name": "b", **other})])
    assert said in misfit
    assert "KEY_PREFIX" in misfit


@pytest.mark.parametrize(
    ("controller", "worker", "said"),
    [
        ("0.9.0", "0.10.0", "an older controller (0.9.0, a) runs beside a newer worker (0.10.0, w)"),
        ("0.10.0", "0.9.0", "an older worker (0.9.0, w) runs beside a newer controller (0.10.0, a)"),
    ],
)
def test_an_older_part_beside_a_newer_one_is_said(controller: str, worker: str, said: str) -> None:
    (misfit,) = conflicts([part(version=controller), part("worker", "w", version=worker)])
    assert misfit.startswith(said)


def test_what_strangers_wrote_is_passed_over() -> None:
    good = msgspec.json.encode(part())
    assert known([b"", b"\xff", b"[]", b'{"kind": 1}', b"[" * 100_000, good]) == [part()]


def test_who_is_silent_is_not_there_any_more_and_a_misfit_is_new_once() -> None:
    def reply(now: int) -> list[Any]:
        values = [part(seen=100), part(name="b", version="2", seen=100 + GONE_SECONDS)]
        return [now, [item for one in values for item in (b"", msgspec.json.encode(one))]]

    assert [one.name for one in there(reply(130))] == ["a", "b"]
    neighbours = Membership()
    ((misfit,), right) = neighbours.heard(reply(130))
    assert right == []
    assert neighbours.heard(reply(130)) == ([], [])
    assert neighbours.heard(reply(131)) == ([], [misfit])
    assert neighbours.shown() == [{"part": "controller b", "version": "2", "watches": "app=evaluation in evals"}]
