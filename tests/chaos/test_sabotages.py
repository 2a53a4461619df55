"""The fault run finds mistakes: each of seven, made in every part, makes the short run fail; and without one it does not.

`make sabotages` runs these: minutes each, so they are apart from the other tests.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
SHORT = ("--devcluster", "--jobs", "500", "--faults", "40", "--seed", "1")
FOUND = {
    "records-before-publishing": {"lost", "published twice in the stream"},
    "acks-before-task": {"worker's unique events missing"},
    "ignores-versions": {"out of order", "published twice in the stream"},
    "forgets-who-vanished": {"lost", "left open in the ledger"},
    "completes-without-proof": {"logs that are wrong"},
    "compares-two-clocks": {"ends that say less than their attempts"},
    "ignores-the-epoch": {"lost", "records that do not say so", "left open in the ledger"},
}
"""By mistake, the figures of which at least one has to say so."""


def short_run(*more: str) -> tuple[int, set[str]]:
    """Its exit code, and the figures that should be zero and are not."""
    command = [sys.executable, "-m", "chaos", *SHORT, *more]
    run = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=840)
    figures = re.findall(r"^(\S.*?) {2,}(\d+)$", run.stdout, re.MULTILINE)
    names = [name for name, _ in figures]
    assert "lost" in names, run.stdout + run.stderr
    return run.returncode, {name for name, number in figures[names.index("lost") :] if number != "0"}


def test_the_short_run_finds_nothing_where_nothing_is_wrong() -> None:
    assert short_run() == (0, set())


@pytest.mark.parametrize("mistake", FOUND)
def test_the_short_run_finds(mistake: str) -> None:
    environment = {"PYTHONPATH": str(HERE / "sabotage"), "CHAOS_SABOTAGE": mistake, "SWEEP_SECONDS": "0"}
    # What is lost stays lost: there is no point in waiting for it as long as for what is merely late.
    code, wrong = short_run(
        "--patience", "20", *(word for item in environment.items() for word in ("--env", "=".join(item)))
    )
    assert code == 1
    assert wrong & FOUND[mistake]
