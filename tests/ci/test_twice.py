"""`.ci/twice`: failed tests get one more run, alone, and what passes only then is named; nothing else is forgiven."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

TWICE = Path(__file__).parents[2] / ".ci" / "twice"
ONCE_BAD = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("word", ["with a space", "b"])
def test_unsteady(word):
    marker = Path(f"{word}.ran")
    if not marker.exists():
        marker.touch()
        raise AssertionError("the first time")
"""
GOOD = "def test_good(): pass\n"
BAD = "def test_bad(): assert False\n"


class Run(NamedTuple):
    code: int
    output: str
    named: list[str]


def twice(folder: Path, *arguments: str, **files: str) -> Run:
    """Runs it in a folder with these test files."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    second_try = folder / "second-try"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    ended = subprocess.run(
        [sys.executable, str(TWICE), *arguments],
        cwd=folder,
        env={**environment, "SECOND_TRY": str(second_try)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    named = second_try.read_text().splitlines() if second_try.exists() else []
    return Run(ended.returncode, ended.stdout, named)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_passes_alone_is_named_and_the_run_counts_as_passed(tmp_path: Path, processes: str) -> None:
    run = twice(tmp_path, "-n", processes, test_unsteady=ONCE_BAD, test_good=GOOD)
    assert run.code == 0
    assert run.named == ["test_unsteady.py::test_unsteady[b]", "test_unsteady.py::test_unsteady[with a space]"]
    assert "=== 2 failed; once more, alone" in run.output
    assert run.output.splitlines()[-1].strip("= ").startswith("2 passed"), "only the failed ones ran again"


def test_what_fails_twice_fails_and_is_not_named(tmp_path: Path) -> None:
    run = twice(tmp_path, test_bad=BAD, test_good=GOOD)
    assert (run.code, run.named) == (1, [])


def test_one_that_fails_twice_spoils_those_that_do_not(tmp_path: Path) -> None:
    run = twice(tmp_path, test_bad=BAD, test_unsteady=ONCE_BAD)
    assert (run.code, run.named) == (1, [])


@pytest.mark.parametrize(
    ("text", "code"), [("import nothing_of_this_name\n", 2), ("", 5)], ids=["broken collection", "no tests"]
)
def test_any_other_failure_is_not_tried_again(tmp_path: Path, text: str, code: int) -> None:
    run = twice(tmp_path, test_odd=text)
    assert (run.code, run.named) == (code, [])
    assert "once more" not in run.output


def test_a_run_without_failures_runs_once(tmp_path: Path) -> None:
    run = twice(tmp_path, str(tmp_path / "test_good.py"), test_good=GOOD)
    assert (run.code, run.named) == (0, [])
    assert "once more" not in run.output


def test_a_folder_among_the_arguments_does_not_add_its_other_tests(tmp_path: Path) -> None:
    run = twice(tmp_path, ".", test_unsteady=ONCE_BAD, test_good=GOOD)
    assert run.code == 0
    assert run.output.splitlines()[-1].strip("= ").startswith("2 passed")
