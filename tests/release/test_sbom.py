"""The bill of materials lists what the image installs, and nothing else."""

import subprocess
import sys
from importlib.metadata import distributions, version

import pytest
from packaging.requirements import Requirement

from release.sbom import LOCK, bill, pins


def test_it_lists_exactly_the_pins_of_the_image() -> None:
    lock = LOCK.read_text()
    requirements = [line.rstrip(" \\") for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    windows = {"colorama", "tzdata"}
    expected = {(one.name, str(one.specifier)[2:]) for one in map(Requirement, requirements)}
    found = {(one["name"], one["version"]) for one in bill(lock)["components"]}
    assert {name for name, _ in expected - found} == windows | {
        "async-timeout"
    }  # that one is for Python 3.11.2 and older
    assert found <= expected
    assert len(found) > 30


def test_what_it_lists_is_what_runs_here_too() -> None:
    """The lock of the image holds the same versions as the lock of the tests."""
    here = {one.metadata["Name"].lower().replace("_", "-").replace(".", "-") for one in distributions()}
    for name, pinned in pins(LOCK.read_text()):
        assert name in here and version(name) == pinned, name


def test_the_same_lock_gives_the_same_bytes_and_another_one_another_number() -> None:
    command = [sys.executable, "-m", "release.sbom"]
    first, second = (subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2))
    assert first == second
    assert bill("a==1")["serialNumber"] != bill("a==2")["serialNumber"]


def test_a_line_that_is_no_pin_is_refused() -> None:
    with pytest.raises(ValueError, match="not a pin: redis>=6"):
        bill("redis>=6\n")
