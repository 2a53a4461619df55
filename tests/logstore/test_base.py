"""The path of a log in a store."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.logstore import LogPlace

HOSTILE = [
    "",
    ".",
    "..",
    "...",
    "/",
    "../../etc",
    "a/b",
    "a\\b",
    "a\0b",
    "a#1",
    "a%2e",
    "ä",
    "a b",
    "\ud800",
    "x" * 300,
]


def test_kubernetes_names_stay_as_they_are() -> None:
    where = LogPlace("evals", "eval-42", "6f9d3b52", "eval-42-x7k2p", "evaluation", 2)
    assert where.path == "evals/eval-42/6f9d3b52/eval-42-x7k2p/evaluation.2.log"
    assert where.source == "eval-42-x7k2p/evaluation"


def test_instances_have_logs_of_their_own() -> None:
    assert LogPlace("n", "j", "u", "p", "c").path != LogPlace("n", "j", "u", "p", "c", 1).path


@pytest.mark.parametrize("field", ["namespace", "job", "uid", "pod", "container"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_within_its_part(field: str, name: str) -> None:
    where = LogPlace("n", "j", "u", "p", "c")._replace(**{field: name})
    parts = where.path.split("/")
    assert len(parts) == 5
    assert all(part.strip(".") and part.isascii() and len(part) < 250 for part in parts)
    assert not {"#", "%", "\\", "\0"} & set(where.path)


@given(st.lists(st.text(max_size=12) | st.sampled_from(HOSTILE), min_size=5, max_size=5))
def test_no_name_leads_out_of_the_store(names: list[str]) -> None:
    path = PurePosixPath(LogPlace(*names).path)
    assert not path.is_absolute() and ".." not in path.parts and len(path.parts) == 5


@given(st.text(max_size=6), st.text(max_size=6))
def test_different_names_have_different_places(one: str, other: str) -> None:
    same = LogPlace("n", "j", "u", one, "c").path == LogPlace("n", "j", "u", other, "c").path
    assert same == (one == other)
