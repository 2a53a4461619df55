"""`python -m fuzz SECONDS`: every target in turn. Prints what was run and found last; exit code 1 when something was."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TARGETS = ("watch", "page", "log", "event", "record", "settings")
FINDINGS = Path(sys.prefix) / "findings"
LONGEST_SECONDS = 10
"""Of one input: what takes longer hangs."""


def main() -> int:
    seconds = int(sys.argv[1])
    FINDINGS.mkdir(exist_ok=True)
    lines, bad = [], 0
    for target in TARGETS:
        _say(f"fuzzing {target} ...")
        with tempfile.TemporaryDirectory(prefix="jobcast-fuzz-") as folder:
            output = _run(target, max(seconds // len(TARGETS), 1), folder)
        runs = re.search(r"number_of_executed_units: *(\d+)", output)
        found = re.search(r"(?:Test unit written to|artifact_prefix=.*?; Test unit written to) (\S+)", output)
        bad += found is not None
        lines.append(
            f"{target:10}{int(runs[1]) if runs else 0:>12,} executions   {found[1] if found else 'nothing found'}"
        )
        if found or not runs:
            _say(output[-6000:])
    _say("\n".join(lines))
    return 1 if bad else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the answer to the command


def _run(target: str, seconds: int, folder: str) -> str:
    options = [f"-max_total_time={seconds}", f"-timeout={LONGEST_SECONDS}", "-rss_limit_mb=2048", "-max_len=65536"]
    options += ["-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={FINDINGS}/{target}-"]
    done = subprocess.run(
        ["nice", "-n", "19", sys.executable, "-m", "fuzz.one", target, *options],
        env={**os.environ, "TMPDIR": folder},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
